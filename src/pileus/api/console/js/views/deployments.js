// What runs, what was done to it and what befell it; and for administrators, the ways to change it.

import { h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { DeploymentList } from "./deployment-card.js";
import { askToDeploy } from "./deployment-dialogs.js";
import { closeDialogs } from "./dialog.js";
import { offer } from "./offer.js";
import { Pulse } from "./pulse.js";
import { TimeLine } from "./timeline.js";

const EVENTS = 100;

export function showDeployments(root, { i18n, api, live, session }) {
  const { t } = i18n;
  const changes = session.may("keys.manage"); // who may give out keys may change what runs
  const deployments = new DeploymentList(i18n, { api, live, changes });
  const timeline = new TimeLine(i18n, { limit: EVENTS, label: t("events.title") });
  const pulse = new Pulse(i18n, live);
  const summary = h("p.lead");
  const filter = h("select", { id: "events-of", onchange: draw });

  async function deploy() {
    if (await askToDeploy(i18n, api, live.status?.deployments ?? [])) await live.refresh();
  }

  function draw() {
    pulse.update();
    deployments.update(live.status);
    if (live.status) setText(summary, readiness(live.status, i18n));
    const names = new Set(live.events.map(({ deployment }) => deployment));
    offer(filter, [...names].toSorted(), { all: t("events.all") });
    timeline.update(live.events.filter(({ deployment }) => !filter.value || deployment === filter.value));
  }

  root.append(
    h(
      "div.page",
      {},
      h(
        "div.page-head",
        {},
        h("div", {}, h("h1", {}, t("nav.deployments")), summary),
        h(
          "div.page-tools",
          {},
          pulse.elements,
          changes && h("button.primary", { type: "button", onclick: deploy }, icon("plus"), t("deploy.title")),
        ),
      ),
      deployments.element,
      h(
        "section.events",
        { "aria-labelledby": "events-title" },
        h(
          "div.section-head",
          {},
          h("h2", { id: "events-title" }, t("events.title")),
          h("label.visually-hidden", { for: "events-of" }, t("events.of")),
          filter,
        ),
        timeline.element,
      ),
    ),
  );
  const leave = live.show(draw);
  return {
    dispose() {
      leave();
      closeDialogs();
    },
  };
}

/** "2 of 2 replicas ready" */
export function readiness({ deployments }, { t }) {
  const replicas = deployments.flatMap((deployment) => deployment.replicas);
  const ready = replicas.filter(({ state }) => state === "ready").length;
  return t("overview.ready", { ready, count: replicas.length });
}
