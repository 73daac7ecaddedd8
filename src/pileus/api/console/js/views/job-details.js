// One job looked at closely: how far it is, what befell it, what it told, and what can be asked of it.

import { announce, h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { ask } from "./dialog.js";
import { Curves } from "./curves.js";
import { JobProgress, named, showState } from "./job-row.js";

const ACTS = { pause: "pause", resume: "play", cancel: "stop" };
const NEAR_END_PX = 40; // who reads the log's end goes on reading it

export class JobDetails {
  element;
  #i18n;
  #feed;
  #job = null;
  #told = ""; // the state that was last said aloud
  #title = h("h2", { id: "job-title", tabindex: "-1" });
  #code = h("code");
  #state = h("span.state");
  #progress;
  #complaint = h("p.complaint");
  #buttons;
  #curves;
  #history = h("dl.history");
  #log;

  /** `onClose()` is called when the reader has seen enough. */
  constructor(i18n, feed, onClose) {
    this.#i18n = i18n;
    this.#feed = feed;
    const { t } = i18n;
    this.#progress = new JobProgress(i18n);
    this.#curves = new Curves(i18n);
    this.#buttons = Object.keys(ACTS).map((act) => this.#button(act));
    this.#log = h("pre.log", { tabindex: "0", role: "region", "aria-label": t("job.log") });
    const close = h(
      "button.icon-button",
      { type: "button", "aria-label": t("job.close"), title: t("job.close"), onclick: onClose },
      icon("close"),
    );
    this.element = h(
      "section.card.job-details",
      {
        hidden: true,
        "aria-labelledby": "job-title",
        onkeydown: (event) => event.key === "Escape" && onClose(),
      },
      h("header", {}, h("div", {}, this.#title, this.#code), close),
      this.#state,
      this.#progress.element,
      this.#complaint,
      this.#curves.element,
      h("div.job-acts", { role: "group", "aria-label": t("job.acts") }, this.#buttons),
      h("h3", {}, t("job.history")),
      this.#history,
      h("h3", {}, t("job.log")),
      this.#log,
    );
  }

  #button(act) {
    const { t } = this.#i18n;
    const look = act === "cancel" ? ".danger" : "";
    const onclick = () => askTo(act, this.#i18n, this.#feed, this.#job);
    return h(`button.small${look}`, { type: "button", dataset: { act }, onclick }, icon(ACTS[act]), t(`job.${act}`));
  }

  update(job, lines, points, rate) {
    this.element.hidden = job === null;
    if (job === null) return;
    const isOther = job.id !== this.#job?.id;
    this.#job = job;
    setText(this.#title, named("job.kind", job.kind, this.#i18n));
    setText(this.#code, job.id);
    showState(this.#state, job, this.#i18n);
    this.#say(isOther);
    this.#progress.update(job, rate);
    this.#curves.update(points);
    setText(this.#complaint, job.error?.message ?? "");
    for (const button of this.#buttons) this.#offer(button, job.acts.includes(button.dataset.act));
    this.#showHistory(job);
    this.#showLog(lines, isOther);
  }

  focus() {
    this.#title.focus();
  }

  #offer(button, possible) {
    const focused = !possible && button === document.activeElement;
    button.hidden = !possible;
    if (focused) this.focus();
  }

  /** Its states are said aloud from the second on. */
  #say(isOther) {
    const told = `${this.#title.textContent}: ${this.#state.textContent}`;
    if (!isOther && told !== this.#told) announce(told);
    this.#told = told;
  }

  #showHistory(job) {
    const { t, format } = this.#i18n;
    const waits = job.state === "queued" && job.ready_at * 1000 > Date.now();
    const facts = {
      tenant: job.tenant,
      priority: job.priority && format.number(job.priority),
      needs: job.needs.join(", "),
      submitted: format.date(job.created_at),
      started: job.started_at && format.date(job.started_at),
      failures: job.failures && format.number(job.failures),
      next_try: waits && format.clock(job.ready_at),
      ended: job.finished_at && format.date(job.finished_at),
      took: job.started_at && job.finished_at && format.duration(job.finished_at - job.started_at),
      expires: !job.finished_at && job.due_at && format.date(job.due_at),
    };
    const told = Object.entries(facts).filter(([, fact]) => fact);
    if (String(told) === this.#history.dataset.told) return;
    this.#history.dataset.told = String(told);
    this.#history.replaceChildren(
      ...told.map(([name, fact]) => h("div", {}, h("dt", {}, t(`job.fact.${name}`)), h("dd", {}, fact))),
    );
  }

  #showLog(lines, isOther) {
    const { t, format } = this.#i18n;
    const log = this.#log;
    const follows = isOther || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
    const text = lines.map(({ at, level, text }) =>
      [format.clock(at), level !== "info" && `${named("job.level", level, this.#i18n)}:`, text].filter(Boolean).join(" "),
    );
    const shown = text.join("\n") || t("job.log.empty");
    if (log.textContent === shown) return;
    setText(log, shown);
    if (follows) log.scrollTop = log.scrollHeight;
  }
}

/** Ask whether it is meant; a refusal is shown there. */
function askTo(act, i18n, feed, job) {
  const { t } = i18n;
  return ask(i18n, {
    title: t(`job.${act}.title`),
    body: [h("p", {}, h("code", {}, job.id)), h("p", {}, t(`job.${act}.more`))],
    confirm: t(`job.${act}`),
    cancel: t(act === "cancel" ? "job.cancel.not" : "dialog.cancel"),
    look: act === "cancel" ? "danger" : "primary",
    answer: () => feed.ask(act, job),
  });
}
