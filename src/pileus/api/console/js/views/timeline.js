// What happened to deployments and replicas, newest first.

import { h } from "../dom.js";

const TONES = {
  replica_ready: "ready",
  replica_crashed: "failed",
  replica_hung: "failed",
  replica_restarted: "backoff",
  replica_ejected: "backoff",
  roll_begun: "backoff",
  roll_ended: "ready",
  deployed: "ready",
  deploy_failed: "failed",
  scale_failed: "failed",
  restart_failed: "failed",
  undeploy_failed: "failed",
};
const TODAY_S = 12 * 3600; // what is older is shown with its date

/** How an event is to be taken, as the state that looks like it. */
export const tone = ({ kind }) => TONES[kind] ?? "stopped";

/** "chat/1 crashed": an event in a few words. */
export const headline = ({ kind, deployment, replica }, { t }) => `${replica || deployment} ${t(`event.${kind}`)}`;

export class TimeLine {
  element = h("div.timeline");
  #i18n;
  #limit;
  #list;
  #rows = new Map(); // by time, which is no event's but one's

  constructor(i18n, { limit, label }) {
    this.#i18n = i18n;
    this.#limit = limit;
    this.#list = h("ol.card", { "aria-label": label });
  }

  update(events) {
    const shown = events.slice(-this.#limit).reverse();
    const times = shown.map(({ t }) => t);
    if (this.element.childElementCount && String(times) === String([...this.#rows.keys()])) return;
    this.#rows = new Map(shown.map((event) => [event.t, this.#rows.get(event.t) ?? row(event, this.#i18n)]));
    this.#list.replaceChildren(...this.#rows.values());
    this.element.replaceChildren(shown.length ? this.#list : h("p.empty", {}, this.#i18n.t("events.none")));
  }
}

function row(event, i18n) {
  const { t, format } = i18n;
  const when = Date.now() / 1000 - event.t < TODAY_S ? format.clock(event.t) : format.date(event.t);
  return h(
    "li",
    {},
    h("time.num", { datetime: new Date(event.t * 1000).toISOString(), title: format.date(event.t) }, when),
    h("strong", {}, event.replica || event.deployment),
    h("span.state", { dataset: { state: tone(event) } }, t(`event.${event.kind}`)),
    h("span.event-more", {}, details(event, i18n)),
    event.reason && h("p.event-reason", {}, event.reason),
  );
}

function details({ kind, before, after, cause, by, requests, took_s: took, retry_s: retry }, { t, format }) {
  const time = (seconds) => ({ time: format.milliseconds(seconds * 1000).join(" ") });
  return [
    after !== undefined && t("event.replicas", { before, after }),
    cause && t(`cause.${cause}`),
    requests && t("event.requests", { count: requests }),
    took !== undefined && t("event.took", time(took)),
    retry !== undefined && t(kind === "replica_restarted" ? "event.waited" : "event.retry", time(retry)),
    by && t("event.by", { name: by }),
  ]
    .filter(Boolean)
    .join(" · ");
}
