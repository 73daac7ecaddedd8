// The playground's dials: what each may be, and the fields of a request that follow from those that were moved.

/** `neutral` is what the API takes when the field is absent; `slider` dials are bounded on both sides. */
export const DIALS = [
  { key: "temperature", min: 0, max: 2, step: 0.05, neutral: 1, slider: true },
  { key: "top_p", min: 0.01, max: 1, step: 0.01, neutral: 1, slider: true },
  { key: "top_k", min: 0, step: 1, neutral: 0 },
  { key: "min_p", min: 0, max: 1, step: 0.01, neutral: 0, slider: true },
  { key: "max_tokens", min: 1, step: 1, neutral: null },
  { key: "seed", min: 0, step: 1, neutral: null },
  { key: "presence_penalty", min: -2, max: 2, step: 0.1, neutral: 0, slider: true },
  { key: "frequency_penalty", min: -2, max: 2, step: 0.1, neutral: 0, slider: true },
  { key: "repetition_penalty", min: 0.1, max: 2, step: 0.05, neutral: 1, slider: true },
];

const MOST_STOPS = 4;

export class Parameters {
  model = null;
  system = "";
  stop = ""; // one string a line
  values = Object.fromEntries(DIALS.map(({ key, neutral }) => [key, neutral]));

  reset() {
    Object.assign(this, new Parameters(), { model: this.model });
  }

  get stops() {
    return this.stop.split("\n").filter(Boolean).slice(0, MOST_STOPS);
  }

  /** How many dials are not where they were. */
  get moved() {
    return (
      DIALS.filter(({ key, neutral }) => this.values[key] !== neutral).length +
      (this.stops.length > 0) +
      (this.system !== "")
    );
  }

  /** Fields of a request: only what differs, so that a deployment's own defaults hold for the rest. */
  request() {
    const moved = DIALS.filter(({ key, neutral }) => this.values[key] !== neutral);
    return {
      model: this.model,
      ...Object.fromEntries(moved.map(({ key }) => [key, this.values[key]])),
      ...(this.stops.length ? { stop: this.stops } : {}),
      system: this.system,
    };
  }
}
