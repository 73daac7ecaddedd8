// The figures that a job tells as it goes on, each as a curve over its steps, and in words for who does not see it.

import { h, s, setText } from "../dom.js";
import { linear } from "../scale.js";

const WIDTH = 320;
const HEIGHT = 96;
const PAD = 6;
const MOST = 12; // curves

export class Curves {
  element = h("div.curves");
  #i18n;
  #figures = new Map(); // by name

  constructor(i18n) {
    this.#i18n = i18n;
  }

  /** `points`: `[{ step, values }]` in the order of steps. */
  update(points) {
    const names = [...new Set(points.flatMap(({ values }) => Object.keys(values)))].sort().slice(0, MOST);
    this.element.hidden = !names.length;
    if (String(names) !== String([...this.#figures.keys()])) {
      this.#figures = new Map(names.map((name) => [name, this.#figure(name)]));
      this.element.replaceChildren(...[...this.#figures.values()].map(({ element }) => element));
    }
    for (const name of names) this.#draw(this.#figures.get(name), name, points);
  }

  #figure(name) {
    const path = s("path", { class: "chart-line sky" });
    const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, path);
    const last = h("strong.num");
    const words = h("span");
    return { element: h("figure", {}, h("figcaption", {}, h("code", {}, name), last), svg, words), path, last, words };
  }

  #draw({ path, last, words }, name, points) {
    const { t, format } = this.#i18n;
    const told = points.filter(({ values }) => name in values).map(({ step, values }) => [step, values[name]]);
    const [steps, values] = [told.map(([step]) => step), told.map(([, value]) => value)];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = linear([steps[0], steps.at(-1)], [PAD, WIDTH - PAD]);
    const y = linear([low, high], [HEIGHT - PAD, PAD]);
    const places = told.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
    path.setAttribute("d", `M${places.join("L")}${places.length === 1 ? "h0" : ""}`);
    setText(last, figure(values.at(-1), format));
    const least = { first: steps[0], last: steps.at(-1), low: figure(low, format), high: figure(high, format) };
    setText(words, t("job.curve", least));
  }
}

/** Learning rates are small, token counts are large. */
function figure(value, format) {
  return value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(2) : format.number(value);
}
