// A live line chart in plain SVG: axes, a cross-hair that the pointer or the arrow keys move, and the same in words.

import { announce, h, s, set } from "./dom.js";
import { linear, nearest, stretches, valueAxis } from "./scale.js";

const MOST_TOLD = 4; // events of one point
const MARGIN = { top: 10, right: 12, bottom: 24, left: 44 };

/**
 * `lines`: `[{ key, label, className }]`, the first is the main one and gets an area below it. `format` makes text of a
 * value; `atLeast` is the smallest top of the axis; `top` fixes it; `words(points)` sums the chart up for people who do
 * not see it; `tickText` is `format` where the axis has room for less.
 */
export class LineChart {
  #options;
  #points = [];
  #marks = [];
  #span = { from: 0, to: 1 };
  #cursor = null; // the time that is read out
  #size = { width: 320, height: 160 };
  #observer;

  constructor(options) {
    this.#options = options;
    this.#build();
    this.#observer = new ResizeObserver(([entry]) => {
      this.#size = { width: Math.max(160, entry.contentRect.width), height: entry.contentRect.height };
      this.#draw();
    });
    this.#observer.observe(this.plot);
  }

  /** Show these points over the last `seconds`, and as marks `[{ t, tone, text }]` what happened meanwhile. */
  update(points, seconds, marks = []) {
    const to = points.at(-1)?.t ?? 0;
    this.#span = { from: to - seconds, to };
    this.#points = points.filter((point) => point.t >= this.#span.from);
    this.#marks = marks.filter((mark) => mark.t >= this.#span.from && mark.t <= to);
    this.#draw();
  }

  dispose() {
    this.#observer.disconnect();
  }

  #build() {
    const { label, lines, keyboardHint } = this.#options;
    this.grid = s("g.chart-grid");
    this.marks = s("g.chart-marks");
    this.paths = lines.map((line) => ({
      ...line,
      area: line === lines[0] ? s("path.chart-area", { class: `chart-area ${line.className}` }) : null,
      path: s("path", { class: `chart-line ${line.className}` }),
      dot: s("circle", { class: `chart-dot ${line.className}`, r: 4, visibility: "hidden" }),
    }));
    this.rule = s("line.chart-rule", { visibility: "hidden" });
    this.svg = s(
      "svg",
      { "aria-hidden": "true" },
      this.grid,
      this.paths.map(({ area }) => area),
      this.rule,
      this.paths.map(({ path, dot }) => [path, dot]),
      this.marks,
    );
    this.readout = h("div.chart-readout", { hidden: true, "aria-hidden": "true" });
    this.plot = h(
      "div.chart-plot",
      {
        tabindex: "0",
        role: "img",
        "aria-label": label,
        "aria-roledescription": keyboardHint,
        onpointermove: (event) => this.#pointAt(event.clientX),
        onpointerdown: (event) => this.#pointAt(event.clientX),
        onpointerleave: () => this.#moveTo(null),
        onblur: () => this.#moveTo(null),
        onkeydown: (event) => this.#onKey(event),
      },
      this.svg,
      this.readout,
    );
    this.element = h("div.chart", {}, this.plot);
  }

  #draw() {
    const { width, height } = this.#size;
    const { atLeast, top, label, words } = this.#options;
    const largest = Math.max(0, ...this.paths.flatMap(({ key }) => this.#points.map((point) => point[key] ?? 0)));
    const axis = valueAxis(top ?? largest, top ?? atLeast, height < 150 ? 2 : 4);
    const x = linear([this.#span.from, this.#span.to], [MARGIN.left, width - MARGIN.right]);
    const y = linear([0, axis.top], [height - MARGIN.bottom, MARGIN.top]);
    set(this.svg, "viewBox", `0 0 ${width} ${height}`);
    this.grid.replaceChildren(...this.#gridLines(axis.ticks, y), ...this.#timeLabels(x));
    for (const line of this.paths) this.#drawLine(line, x, y);
    this.marks.replaceChildren(...this.#marks.map((mark) => this.#drawMark(mark, x(mark.t), y(0))));
    this.#drawCursor(x, y);
    set(this.plot, "aria-label", `${label}. ${words(this.#points)}`);
  }

  #gridLines(ticks, y) {
    const { format, tickText = format } = this.#options;
    return ticks.flatMap((tick) => [
      s("line", { x1: MARGIN.left, x2: this.#size.width - MARGIN.right, y1: y(tick), y2: y(tick) }),
      s("text", { x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick)),
    ]);
  }

  #timeLabels(x) {
    const seconds = this.#span.to - this.#span.from;
    const marks = this.#size.width < 420 ? 2 : 5;
    return Array.from({ length: marks + 1 }, (_, index) => {
      const ago = Math.round((seconds * (marks - index)) / marks);
      const anchor = index === 0 ? "start" : index === marks ? "end" : "middle";
      const place = { x: x(this.#span.to - ago), y: this.#size.height - 6, "text-anchor": anchor };
      return s("text", place, this.#options.ago(ago));
    });
  }

  #drawLine({ key, path, area }, x, y) {
    const value = (point) => point[key];
    const runs = stretches(this.#points, value).map((run) => run.map((point) => [x(point.t), y(value(point))]));
    // A lone point is drawn as a line of no length, which round caps turn into a dot.
    const outline = (run) =>
      `M${run.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}${run.length === 1 ? "h0" : ""}`;
    set(path, "d", runs.map(outline).join(""));
    const floor = y(0).toFixed(1);
    if (area) set(area, "d", runs.map((run) => `${outline(run)}V${floor}H${run[0][0].toFixed(1)}Z`).join(""));
  }

  /** A line down to the axis, with a sign of the tone's own shape on top. */
  #drawMark({ tone }, x, floor) {
    const top = MARGIN.top;
    return s(
      "g",
      { class: "chart-mark", "data-state": tone },
      s("path", { d: `M${x.toFixed(1)} ${top}V${floor.toFixed(1)}` }),
      tone === "failed"
        ? s("rect", { x: x - 3, y: top - 3, width: 6, height: 6 })
        : s("circle", { cx: x, cy: top, r: 3 }),
    );
  }

  // --- the read-out ------------------------------------------------------------------------------------------------

  #pointAt(clientX) {
    if (!this.#points.length) return;
    const box = this.plot.getBoundingClientRect();
    const t = linear(
      [MARGIN.left, this.#size.width - MARGIN.right],
      [this.#span.from, this.#span.to],
    )(clientX - box.left);
    this.#moveTo(this.#points[nearest(this.#points, t)].t);
  }

  #onKey(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") return this.#moveTo(null);
    if (!(event.key in steps) || !this.#points.length) return undefined;
    event.preventDefault();
    const last = this.#points.length - 1;
    const at = this.#cursor === null ? last : nearest(this.#points, this.#cursor) + steps[event.key];
    const point = this.#points[Math.min(last, Math.max(0, at))];
    this.#moveTo(point.t);
    return announce(this.#describe(point).join(", "));
  }

  #moveTo(t) {
    this.#cursor = t;
    this.#draw();
  }

  #describe(point) {
    const { clock, format } = this.#options;
    const marks = this.#marks.filter((mark) => this.#points[nearest(this.#points, mark.t)] === point);
    return [
      clock(point.t),
      ...this.paths.map(({ key, label }) => `${label} ${format(point[key])}`),
      ...marks.slice(0, MOST_TOLD).map(({ text }) => text),
    ];
  }

  #drawCursor(x, y) {
    const point = this.#cursor === null ? null : this.#points[nearest(this.#points, this.#cursor)];
    this.readout.hidden = !point;
    set(this.rule, "visibility", point ? "visible" : "hidden");
    for (const { key, dot } of this.paths) {
      const shown = point && point[key] != null;
      set(dot, "visibility", shown ? "visible" : "hidden");
      if (shown)
        for (const [name, at] of [
          ["cx", x(point.t)],
          ["cy", y(point[key])],
        ])
          set(dot, name, at);
    }
    if (point) this.#drawReadout(point, x(point.t));
  }

  #drawReadout(point, px) {
    for (const [name, at] of [
      ["x1", px],
      ["x2", px],
      ["y1", MARGIN.top],
      ["y2", this.#size.height - MARGIN.bottom],
    ])
      set(this.rule, name, at);
    const [time, ...values] = this.#describe(point);
    this.readout.replaceChildren(h("time", {}, time), ...values.map((text) => h("span", {}, text)));
    const left = px > this.#size.width / 2;
    this.readout.style.left = left ? "auto" : `${px + 12}px`;
    this.readout.style.right = left ? `${this.#size.width - px + 12}px` : "auto";
  }
}

/** A legend of a chart's lines; the swatch repeats the dash pattern, so that colour is never the only sign. */
export function legend(lines) {
  const swatch = ({ className }) =>
    s(
      "svg",
      { viewBox: "0 0 18 8", "aria-hidden": "true" },
      s("path", { class: `chart-line ${className}`, d: "M1 4H17" }),
    );
  return h(
    "div.chart-legend",
    {},
    lines.map((line) => h("span", {}, swatch(line), line.label)),
  );
}
