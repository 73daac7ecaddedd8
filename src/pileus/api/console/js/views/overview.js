// How the cloud is doing: four figures with their last minutes, what runs, and what happened of late.

import { h, set, setText } from "../dom.js";
import { LineChart, legend } from "../chart.js";
import { readiness } from "./deployments.js";
import { keep } from "./kept.js";
import { panels } from "./panels.js";
import { Pulse } from "./pulse.js";
import { TimeLine, headline, tone } from "./timeline.js";

const WINDOWS_S = [60, 300];
const EVENTS = 8;
const MARKED = "tokens"; // the figure whose chart has the events as marks

export function showOverview(root, { i18n, live }) {
  const { t, format } = i18n;
  let seconds = WINDOWS_S.at(-1);
  const cards = panels(i18n).map((panel) => figureCard(panel, i18n));
  const deployments = new Strip(i18n);
  const timeline = new TimeLine(i18n, { limit: EVENTS, label: t("events.title") });
  const pulse = new Pulse(i18n, live);
  const summary = h("p.lead");
  const windows = WINDOWS_S.map((each) =>
    h(
      "button",
      { type: "button", onclick: () => ((seconds = each), draw()), "aria-pressed": "false" },
      t("overview.minutes", { count: each / 60 }),
    ),
  );

  function draw() {
    windows.forEach((button, index) => set(button, "aria-pressed", String(WINDOWS_S[index] === seconds)));
    const marks = live.events.map((event) => ({ t: event.t, tone: tone(event), text: headline(event, i18n) }));
    for (const card of cards) card.update(live.points, seconds, card.name === MARKED ? marks : []);
    pulse.update();
    timeline.update(live.events);
    if (live.status) setText(summary, sentence(live.status, i18n));
    deployments.update(live.status);
    root.classList.toggle("waiting", live.points.length === 0);
  }

  root.append(
    h(
      "div.page",
      {},
      h(
        "div.page-head",
        {},
        h("div", {}, h("h1", {}, t("nav.overview")), summary),
        h(
          "div.page-tools",
          {},
          pulse.elements,
          h("div.segmented", { role: "group", "aria-label": t("overview.window") }, windows),
        ),
      ),
      h(
        "section.figures",
        { "aria-label": t("overview.figures") },
        cards.map(({ element }) => element),
      ),
      h(
        "section.deployments",
        { "aria-labelledby": "deployments-title" },
        h("h2", { id: "deployments-title" }, t("overview.deployments")),
        deployments.element,
      ),
      h(
        "section.events",
        { "aria-labelledby": "events-title" },
        h(
          "div.section-head",
          {},
          h("h2", { id: "events-title" }, t("events.title")),
          h("a", { href: "#/deployments" }, t("events.more")),
        ),
        timeline.element,
      ),
    ),
  );
  const leave = live.show(draw);
  return {
    dispose() {
      leave();
      cards.forEach((card) => card.dispose());
      root.classList.remove("waiting");
    },
  };
}

/** One figure: its value now, and a chart of its last minutes. */
function figureCard(panel, { t, format }) {
  const figure = h("strong.figure");
  const unit = h("span.unit");
  const aside = h("p.figure-aside");
  const chart = new LineChart({
    ...panel,
    clock: (unixSeconds) => format.clock(unixSeconds),
    ago: (seconds) => (seconds ? t("overview.ago", { time: format.duration(seconds) }) : t("overview.now")),
    keyboardHint: t("chart.hint"),
  });
  const element = h(
    `article.card.figure-card.${panel.name}`,
    {},
    h(
      "header",
      {},
      h("div", {}, h("h2.figure-title", {}, panel.label), h("p.figure-now", {}, figure, unit)),
      h("div.figure-side", {}, panel.lines.length > 1 && legend(panel.lines), aside),
    ),
    chart.element,
  );
  return {
    name: panel.name,
    element,
    dispose: () => chart.dispose(),
    update(points, seconds, marks) {
      chart.update(points, seconds, marks);
      const words = panel.headline(points);
      [figure, unit, aside].forEach((part, index) => setText(part, words[index]));
    },
  };
}

/** "2 of 2 replicas ready · up 3h 12m · version 0.1.0" */
function sentence(status, i18n) {
  const { t, format } = i18n;
  const { uptime_s: uptime, version } = status;
  return [
    readiness(status, i18n),
    t("overview.up", { time: format.duration(uptime) }),
    t("overview.version", { version }),
  ].join(" · ");
}

/** Each deployment in a line, as a way to its page. */
class Strip {
  element = h("ul.strip");
  #i18n;
  #items = new Map();
  #empty;

  constructor(i18n) {
    this.#i18n = i18n;
    this.#empty = h("li.empty", {}, i18n.t("overview.none"));
  }

  update(status) {
    if (!status) return;
    if (status.deployments.length) this.#empty.remove();
    else this.element.append(this.#empty);
    keep(
      this.#items,
      this.element,
      status.deployments,
      ({ name }) => name,
      () => new StripItem(this.#i18n),
    );
  }
}

class StripItem {
  #i18n;
  #name = h("strong");
  #state = h("span.state");
  #waiting = h("span.deployment-waiting");
  element = h("li", {}, h("a.card", { href: "#/deployments" }, this.#name, this.#state, this.#waiting));

  constructor(i18n) {
    this.#i18n = i18n;
  }

  update({ name, ready, desired, waiting, replicas }) {
    const { t } = this.#i18n;
    const broken = ready === 0 && replicas.some(({ state }) => state === "crash-loop");
    const state = broken ? "crash-loop" : desired === 0 ? "stopped" : ready < desired ? "starting" : "ready";
    setText(this.#name, name);
    set(this.#state, "data-state", state);
    setText(this.#state, desired ? t("deployment.ready", { ready, desired }) : t("deployment.sleeps"));
    setText(this.#waiting, waiting ? t("deployment.waiting", { count: waiting }) : "");
  }
}
