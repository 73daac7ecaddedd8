// Deployments and their replicas. Rows are kept and changed in place: a live table that is built anew each second
// would take the focus and the selection away from under the reader.

import { h, set, setText } from "../dom.js";

export class DeploymentList {
  element = h("div.deployment-list");
  #i18n;
  #cards = new Map();

  constructor(i18n) {
    this.#i18n = i18n;
  }

  update(status) {
    if (!status) return;
    const { t } = this.#i18n;
    if (!status.deployments.length && !this.element.childElementCount)
      this.element.append(h("p.empty", {}, t("overview.none")));
    keep(
      this.#cards,
      this.element,
      status.deployments,
      ({ name }) => name,
      () => new DeploymentCard(this.#i18n),
    );
  }
}

/** Make `parent` show one kept child per item: `make()` for the new, `update(item)` for all, and the rest leave. */
function keep(kept, parent, items, key, make) {
  const names = new Set(items.map(key));
  for (const [name, child] of kept) {
    if (names.has(name)) continue;
    child.element.remove();
    kept.delete(name);
  }
  for (const item of items) {
    if (!kept.has(key(item))) {
      const child = make();
      kept.set(key(item), child);
      parent.append(child.element);
    }
    kept.get(key(item)).update(item);
  }
}

class DeploymentCard {
  #i18n;
  #rows = new Map();
  #name = h("h3");
  #model = h("p.deployment-model");
  #aliases = h("p.chips");
  #waiting = h("p.deployment-waiting");
  #queue = h("ul.queue");
  #standings = new Map();
  #body = h("tbody");

  constructor(i18n) {
    this.#i18n = i18n;
    const { t } = i18n;
    set(this.#queue, "aria-label", t("deployment.queue"));
    const columns = ["replica", "state", "load", "kv", "prefix", "speed", "restarts"];
    const head = h(
      "thead",
      {},
      h(
        "tr",
        {},
        columns.map((column) => h("th", { scope: "col", class: `col-${column}` }, t(`replica.${column}`))),
      ),
    );
    this.element = h(
      "article.card.deployment",
      {},
      h("header", {}, this.#name, this.#aliases, this.#waiting, this.#model),
      this.#queue,
      h("table.replicas", {}, h("caption.visually-hidden", {}, t("replica.caption")), head, this.#body),
    );
  }

  update({ name, model, engine, aliases, waiting, queue, replicas }) {
    const { t } = this.#i18n;
    setText(this.#name, name);
    setText(this.#model, t("deployment.model", { model, engine }));
    setText(this.#waiting, waiting ? t("deployment.waiting", { count: waiting }) : "");
    if (this.#aliases.childElementCount !== aliases.length) {
      this.#aliases.replaceChildren(...aliases.map((alias) => h("span.chip", { title: t("deployment.alias") }, alias)));
    }
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
      () => new ReplicaRow(this.#i18n),
    );
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

class ReplicaRow {
  #i18n;
  #cells;

  constructor(i18n) {
    this.#i18n = i18n;
    const { t } = i18n;
    const cell = (name, ...children) => h("td", { dataset: { label: t(`replica.${name}`) } }, children);
    this.#cells = {
      id: h("span"),
      process: h("span.faint"),
      state: h("span.state"),
      error: h("p.replica-error"),
      load: meter(),
      kv: meter(),
      prefix: h("span.num"),
      speed: h("span.num"),
      total: h("span.faint"),
      restarts: h("span.num"),
    };
    const { id, process, state, error, load, kv, prefix, speed, total, restarts } = this.#cells;
    this.element = h(
      "tr",
      {},
      h("th", { scope: "row" }, id, process),
      cell("state", state, error),
      cell("load", load.element),
      cell("kv", kv.element),
      cell("prefix", prefix),
      cell("speed", speed, total),
      cell("restarts", restarts),
    );
  }

  update(replica) {
    const { t, format } = this.#i18n;
    const cells = this.#cells;
    const { slots, running, waiting, kv_blocks: blocks, kv_blocks_used: used, kv_blocks_cached: cached } = replica;
    setText(cells.id, replica.id);
    setText(cells.process, replica.pid ? t("replica.process", { pid: replica.pid, epoch: replica.epoch }) : "");
    set(cells.state, "data-state", replica.state);
    setText(cells.state, t(`state.${replica.state}`));
    setText(cells.error, replica.last_error ?? "");
    const load = waiting
      ? t("replica.load.waiting", { running, slots, waiting })
      : t("replica.load.value", { running, slots });
    cells.load.update([share(running, slots)], load);
    cells.kv.update(
      [share(used, blocks), share(cached, blocks)],
      t("replica.kv.value", {
        used: format.percent(share(used, blocks)),
        cached: format.percent(share(cached, blocks)),
      }),
    );
    setText(
      cells.prefix,
      format.percent(replica.prefix_query_tokens ? replica.prefix_hit_tokens / replica.prefix_query_tokens : null),
    );
    setText(cells.speed, t("replica.speed.value", { speed: format.number(replica.tokens_per_s) }));
    setText(cells.total, t("replica.speed.total", { total: format.compact(replica.generated_tokens) }));
    setText(cells.restarts, format.number(replica.restarts));
  }
}

const share = (part, whole) => (whole ? (part ?? 0) / whole : 0);

/** A bar of one or two parts, and the same in words. */
function meter() {
  const bars = [h("i"), h("i")];
  const words = h("span.num");
  return {
    element: h("div.meter", {}, h("div.meter-track", { "aria-hidden": "true" }, bars), words),
    update(shares, text) {
      shares.forEach((share, index) => bars[index].style.setProperty("inline-size", `${Math.min(1, share) * 100}%`));
      setText(words, text);
    },
  };
}
