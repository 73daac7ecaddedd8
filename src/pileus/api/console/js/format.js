// Figures as people read them. `null` is "not measured", which is a dash and not a zero.

const DASH = "–";

export class Format {
  #locale;

  constructor(locale) {
    this.#locale = locale;
  }

  /** Three significant figures below a hundred, whole numbers above. */
  number(value) {
    if (value == null) return DASH;
    const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
    return new Intl.NumberFormat(this.#locale, { maximumFractionDigits: digits }).format(value);
  }

  /** `12,345` or, in narrow places, `12.3K`. */
  compact(value) {
    if (value == null) return DASH;
    return new Intl.NumberFormat(this.#locale, { notation: "compact", maximumFractionDigits: 1 }).format(value);
  }

  percent(ratio) {
    if (ratio == null) return DASH;
    const digits = ratio > 0 && ratio < 0.1 ? 1 : 0;
    return new Intl.NumberFormat(this.#locale, { style: "percent", maximumFractionDigits: digits }).format(ratio);
  }

  /** `[figure, unit]`, so that the unit can be set smaller. */
  milliseconds(ms) {
    if (ms == null) return [DASH, "ms"];
    return ms >= 1000
      ? [this.number(ms / 1000), "s"]
      : [this.number(ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)), "ms"];
  }

  duration(seconds) {
    const parts = [
      [Math.floor(seconds / 86_400), "day"],
      [Math.floor(seconds / 3_600) % 24, "hour"],
      [Math.floor(seconds / 60) % 60, "minute"],
      [Math.floor(seconds) % 60, "second"],
    ];
    const first = Math.max(
      0,
      parts.findIndex(([count]) => count > 0),
    );
    const from = parts.some(([count]) => count > 0) ? first : 3;
    return parts
      .slice(from, from + 2)
      .filter(([count], index) => count > 0 || index === 0)
      .map(([value, unit]) =>
        new Intl.NumberFormat(this.#locale, { style: "unit", unit, unitDisplay: "narrow" }).format(value),
      )
      .join(" ");
  }

  clock(unixSeconds) {
    return new Intl.DateTimeFormat(this.#locale, { timeStyle: "medium" }).format(unixSeconds * 1000);
  }

  date(unixSeconds) {
    if (unixSeconds == null) return DASH;
    return new Intl.DateTimeFormat(this.#locale, { dateStyle: "medium", timeStyle: "short" }).format(
      unixSeconds * 1000,
    );
  }
}
