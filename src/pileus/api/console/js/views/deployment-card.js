// Deployments and their replicas, who waits for them, and what is being done to them.

import { announce, h, set, setText } from "../dom.js";
import { icon } from "../icons.js";
import { askToRestart, askToScale, askToUndeploy, showLog } from "./deployment-dialogs.js";
import { keep } from "./kept.js";
import { COLUMNS, ReplicaRow } from "./replica-row.js";

const COUNTED = new Set(["starting", "scaling", "replacing", "draining"]); // stages in replicas; the rest is in parts

/** `tools` is what the cards work with: api, live, and whether the reader `changes` what runs. */
export class DeploymentList {
  element = h("div.deployment-list");
  #i18n;
  #tools;
  #cards = new Map();
  #empty;

  constructor(i18n, tools) {
    this.#i18n = i18n;
    this.#tools = tools;
    this.#empty = h("p.empty", {}, i18n.t("overview.none"));
  }

  update(status) {
    if (!status) return;
    if (status.deployments.length) this.#empty.remove();
    else this.element.append(this.#empty);
    keep(
      this.#cards,
      this.element,
      status.deployments,
      ({ name }) => name,
      () => new DeploymentCard(this.#i18n, this.#tools),
    );
  }
}

class DeploymentCard {
  #i18n;
  #tools;
  #shown = null; // the deployment as it was last told
  #rows = new Map();
  #name = h("h2");
  #model = h("p.deployment-model");
  #aliases = h("p.chips");
  #waiting = h("p.deployment-waiting");
  #acts = h("div.deployment-acts", { role: "group" });
  #act;
  #queue = h("ul.standings");
  #standings = new Map();
  #held = h("p.held");
  #asleep;
  #body = h("tbody");
  #table;

  constructor(i18n, tools) {
    this.#i18n = i18n;
    this.#tools = tools;
    const { t } = i18n;
    this.#act = new ActLine(i18n);
    this.#asleep = h("p.asleep", {}, t("deployment.asleep"));
    set(this.#queue, "aria-label", t("deployment.queue"));
    if (tools.changes) this.#acts.append(...this.#buttons());
    const head = COLUMNS.map((column) => h("th", { scope: "col", class: `col-${column}` }, t(`replica.${column}`)));
    this.#table = h(
      "table.replicas",
      {},
      h("caption.visually-hidden", {}, t("replica.caption")),
      h("thead", {}, h("tr", {}, head, h("td.col-log"))),
      this.#body,
    );
    this.element = h(
      "article.card.deployment",
      {},
      h("header", {}, this.#name, this.#aliases, this.#waiting, this.#acts, this.#model),
      this.#act.element,
      this.#queue,
      this.#held,
      this.#asleep,
      this.#table,
    );
  }

  #buttons() {
    const { t } = this.#i18n;
    const { api, live } = this.#tools;
    const button = (name, picture, dialog, look = "") =>
      h(
        `button.small${look}`,
        {
          type: "button",
          onclick: async () => (await dialog(this.#i18n, api, this.#shown)) && (await live.refresh()),
        },
        icon(picture),
        t(`act.${name}`),
      );
    return [
      button("scale", "resize", askToScale),
      button("restart", "again", askToRestart),
      button("undeploy", "trash", askToUndeploy, ".danger"),
    ];
  }

  update(deployment) {
    const { t } = this.#i18n;
    const { name, aliases, waiting, held, queue, replicas, act, desired } = deployment;
    this.#shown = deployment;
    setText(this.#name, name);
    set(this.#acts, "aria-label", t("deployment.acts", { name }));
    setText(this.#model, this.#summary(deployment));
    setText(this.#waiting, waiting ? t("deployment.waiting", { count: waiting }) : "");
    setText(this.#held, held ? t("deployment.held", { count: held }) : "");
    if (this.#aliases.childElementCount !== aliases.length) {
      this.#aliases.replaceChildren(...aliases.map((alias) => h("span.chip", { title: t("deployment.alias") }, alias)));
    }
    this.#act.update(name, act);
    this.#asleep.hidden = desired > 0 || replicas.length > 0;
    this.#table.hidden = replicas.length === 0;
    keep(
      this.#standings,
      this.#queue,
      queue,
      ({ tenant, lane }) => `${lane}/${tenant}`,
      () => new StandingRow(this.#i18n),
    );
    keep(
      this.#rows,
      this.#body,
      replicas,
      ({ id }) => id,
      () => new ReplicaRow(this.#i18n, (id) => showLog(this.#i18n, this.#tools.api, name, id)),
    );
  }

  /** "smollm2-135m-instruct on native · 2 of 2 ready · scales by itself from 0 to 4" */
  #summary({ model, engine, ready, desired, scaling }) {
    const { t } = this.#i18n;
    return [
      t("deployment.model", { model, engine }),
      desired ? t("deployment.ready", { ready, desired }) : t("deployment.sleeps"),
      scaling && t("deployment.scaling", { least: scaling.min_replicas, most: scaling.max_replicas }),
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

/** How far an act is; and why the last one failed, if it did. Its end is said aloud. */
class ActLine {
  #i18n;
  #words = h("span");
  #bar = h("progress");
  #running = h("div.act", { hidden: true }, this.#words, this.#bar);
  #complaint = h("p.complaint");
  #told; // the number of the last act whose end was said, or had come before anybody looked
  element = h("div.act-line", {}, this.#running, this.#complaint);

  constructor(i18n) {
    this.#i18n = i18n;
  }

  update(name, act) {
    const { t } = this.#i18n;
    const open = Boolean(act && !act.ended);
    const error = act?.error ? `${t(`event.${act.kind}_failed`)}: ${act.error}` : "";
    this.#running.hidden = !open;
    if (open) this.#show(act);
    const ended = act?.ended ? act.number : (this.#told ?? 0);
    this.#told ??= ended;
    if (ended !== this.#told) announce(error || t("act.ended", { act: t(`act.${act.kind}`), name }));
    this.#told = ended;
    setText(this.#complaint, open ? "" : error);
  }

  #show({ kind, stage, done, total }) {
    const { t, format } = this.#i18n;
    const far = COUNTED.has(stage) ? t("act.of", { done, total }) : format.percent(done / total);
    const where = stage && t(`stage.${stage.replaceAll(" ", "_")}`);
    setText(this.#words, [t(`act.${kind}.now`), where, total > 0 && far].filter(Boolean).join(" · "));
    set(this.#bar, "aria-label", t(`act.${kind}.now`));
    set(this.#bar, "max", total > 0 ? total : null);
    set(this.#bar, "value", done);
    if (!total) this.#bar.removeAttribute("value");
  }
}

/** What one tenant has waiting in one lane. */
class StandingRow {
  #i18n;
  #tenant = h("strong");
  #lane = h("span.lane");
  #count = h("span.num");
  element = h("li.chip", {}, this.#tenant, this.#lane, this.#count);

  constructor(i18n) {
    this.#i18n = i18n;
  }

  update({ tenant, lane, requests, tokens }) {
    const { t, format } = this.#i18n;
    setText(this.#tenant, tenant);
    set(this.#lane, "data-lane", lane);
    setText(this.#lane, t(`lane.${lane}`));
    setText(this.#count, t("deployment.standing", { count: requests, tokens: format.compact(tokens) }));
  }
}
