// One replica: its state and its load, kept in place while it lives.

import { h, set, setText } from "../dom.js";
import { icon } from "../icons.js";

export const COLUMNS = ["replica", "state", "load", "kv", "prefix", "speed", "restarts"];

export class ReplicaRow {
  #i18n;
  #cells;

  /** `onLog(id)` is called when its last lines are asked for. */
  constructor(i18n, onLog) {
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
      log: h("button.small", { type: "button", onclick: () => onLog(id.textContent) }, icon("log"), t("replica.log")),
    };
    const { id, process, state, error, load, kv, prefix, speed, total, restarts, log } = this.#cells;
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
      h("td.row-act", {}, log),
    );
  }

  update(replica) {
    const { t, format } = this.#i18n;
    const cells = this.#cells;
    const { slots, running, waiting, kv_blocks: blocks, kv_blocks_used: used, kv_blocks_cached: cached } = replica;
    setText(cells.id, replica.id);
    setText(cells.process, replica.pid ? t("replica.process", { pid: replica.pid, epoch: replica.epoch }) : "");
    set(cells.log, "aria-label", t("log.title", { replica: replica.id }));
    set(cells.state, "data-state", replica.state);
    setText(cells.state, t(`state.${replica.state}`));
    setText(cells.error, replica.state === "ready" ? "" : replica.last_error); // what is over is on the time line
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
