// How the cloud is doing: four figures with their last minutes, and what runs.

import { h, set, setText } from "../dom.js";
import { icon } from "../icons.js";
import { LineChart, legend } from "../chart.js";
import { advice } from "../advice.js";
import { DeploymentList } from "./deployments.js";
import { panels } from "./panels.js";

const WINDOWS_S = [60, 300];

export function showOverview(root, { i18n, live }) {
  const { t, format } = i18n;
  let seconds = WINDOWS_S.at(-1);
  const cards = panels(i18n).map((panel) => figureCard(panel, i18n));
  const deployments = new DeploymentList(i18n);
  const pulse = h("p.pulse");
  const summary = h("p.lead");
  const pause = h("button.quiet", { type: "button", onclick: () => (live.paused = !live.paused) });
  const windows = WINDOWS_S.map((each) =>
    h(
      "button",
      { type: "button", onclick: () => ((seconds = each), draw()), "aria-pressed": "false" },
      t("overview.minutes", { count: each / 60 }),
    ),
  );

  function draw() {
    windows.forEach((button, index) => set(button, "aria-pressed", String(WINDOWS_S[index] === seconds)));
    for (const card of cards) card.update(live.points, seconds);
    drawPulse();
    if (live.status) setText(summary, sentence(live.status, i18n));
    deployments.update(live.status);
    root.classList.toggle("waiting", live.points.length === 0);
  }

  function drawPulse() {
    const text = live.phase === "lost" ? t("live.lost", { why: advice(live.error, i18n) }) : t(`live.${live.phase}`);
    set(pulse, "data-phase", live.phase);
    if (pulse.textContent !== text) pulse.replaceChildren(h("i"), text);
    const word = live.paused ? "resume" : "pause";
    if (pause.dataset.word === word) return;
    pause.dataset.word = word;
    pause.replaceChildren(icon(live.paused ? "play" : "pause"), t(`overview.${word}`));
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
          pulse,
          pause,
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
    ),
  );
  const leave = live.changed.on(draw);
  const unfollow = live.follow();
  draw();
  return {
    dispose() {
      leave();
      unfollow();
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
    element,
    dispose: () => chart.dispose(),
    update(points, seconds) {
      chart.update(points, seconds);
      const words = panel.headline(points);
      [figure, unit, aside].forEach((part, index) => setText(part, words[index]));
    },
  };
}

/** "2 of 2 replicas ready · up 3h 12m · version 0.1.0" */
function sentence({ deployments, uptime_s: uptime, version }, { t, format }) {
  const replicas = deployments.flatMap((deployment) => deployment.replicas);
  const ready = replicas.filter(({ state }) => state === "ready").length;
  return [
    t("overview.ready", { ready, count: replicas.length }),
    t("overview.up", { time: format.duration(uptime) }),
    t("overview.version", { version }),
  ].join(" · ");
}
