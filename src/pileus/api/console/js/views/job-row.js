// A job in a line of the table, and the words and the bar for how far it is.

import { h, set, setText } from "../dom.js";
import { icon } from "../icons.js";

export const COLUMNS = ["job", "state", "progress", "tenant", "age"];

/** What people call it; a name that has no words in this language is shown as it is. */
export function named(key, name, { t }) {
  const words = t(`${key}.${name}`);
  return words === `${key}.${name}` ? name : words;
}

/** A state, or what it is about to become, into an element of the class `state`. */
export function showState(element, { state, wish }, { t }) {
  set(element, "data-state", wish ? "pending" : state);
  setText(element, t(wish ? `job.wish.${wish}` : `job.state.${state}`));
}

/** A bar with words below it: how much is done, how fast that goes, and how long the rest will take. */
export class JobProgress {
  element = h("div.job-progress");
  #i18n;
  #bar = h("progress");
  #words = h("span.num");

  constructor(i18n) {
    this.#i18n = i18n;
    set(this.#bar, "aria-label", i18n.t("job.progress"));
    this.element.append(this.#bar, this.#words);
  }

  update(job, rate) {
    const { state, done, total } = job;
    this.#bar.hidden = !total && state !== "running";
    set(this.#bar, "max", total || null);
    if (total) this.#bar.value = Math.min(done, total);
    else this.#bar.removeAttribute("value");
    setText(this.#words, this.#told(job, rate));
  }

  /** "running lines · 1,200 of 20,000 · 35/s · 9m left" */
  #told({ state, stage, done, total, fraction }, rate) {
    const { t, format } = this.#i18n;
    const moves = state === "running" && rate > 0;
    const far = total
      ? t("job.done.of", { done: format.number(done), total: format.number(total), share: format.percent(fraction) })
      : done > 0 && format.number(done);
    return [
      stage && state !== "succeeded" && named("job.stage", stage, this.#i18n),
      far,
      moves && t("job.rate", { rate: format.number(rate) }),
      moves && total > done && t("job.left", { time: format.duration((total - done) / rate) }),
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

export class JobRow {
  #i18n;
  #id = "";
  #rate;
  #kind = h("span");
  #code = h("code");
  #state = h("span.state");
  #error = h("p.replica-error");
  #progress;
  #tenant = h("span");
  #age = h("time.num");
  #details;
  element;

  /** `rate(job)` gives its pace; `onDetails(id)` is called when it is to be looked at closely. */
  constructor(i18n, { rate, onDetails }) {
    this.#i18n = i18n;
    this.#rate = rate;
    const { t } = i18n;
    const cell = (name, ...children) => h("td", { dataset: { label: t(`job.${name}`) } }, children);
    this.#progress = new JobProgress(i18n);
    this.#details = h(
      "button.small",
      { type: "button", onclick: () => onDetails(this.#id) },
      icon("log"),
      t("job.details"),
    );
    this.element = h(
      "tr",
      {},
      h("th", { scope: "row" }, this.#kind, this.#code),
      cell("state", this.#state, this.#error),
      cell("progress", this.#progress.element),
      cell("tenant", this.#tenant),
      cell("age", this.#age),
      h("td.row-act", {}, this.#details),
    );
  }

  update(job) {
    const { t, format } = this.#i18n;
    const { id, kind, error, created_at: at } = job;
    this.#id = id;
    setText(this.#kind, named("job.kind", kind, this.#i18n));
    setText(this.#code, id);
    set(this.#details, "aria-label", t("job.details.of", { id }));
    showState(this.#state, job, this.#i18n);
    setText(this.#error, error?.message ?? "");
    this.#progress.update(job, this.#rate(job));
    setText(this.#tenant, job.tenant);
    setText(this.#age, format.duration(Math.max(0, Date.now() / 1000 - at)));
    set(this.#age, "datetime", new Date(at * 1000).toISOString());
    set(this.#age, "title", format.date(at));
  }

  /** Whether it is the one that is looked at. */
  choose(chosen) {
    set(this.#details, "aria-pressed", String(chosen));
    this.element.classList.toggle("chosen", chosen);
  }

  focus() {
    this.#details.focus();
  }
}
