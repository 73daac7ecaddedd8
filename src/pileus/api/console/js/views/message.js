// One message of a conversation; an answer also shows where its time went, and what can be done with it.

import { copy, h, set, setText } from "../dom.js";
import { icon } from "../icons.js";
import { advice } from "../advice.js";
import { MarkdownView } from "../markdown-view.js";

export class MessageView {
  #message;
  #i18n;
  #prose = new MarkdownView();
  #figures = h("dl.answer-figures");
  #actions;
  #complaint = h("p.complaint", { hidden: true });
  #again;

  constructor(message, i18n, { regenerate }) {
    this.#message = message;
    this.#i18n = i18n;
    const { t } = i18n;
    this.#again = h("button.small", { type: "button", onclick: regenerate }, icon("again"), t("chat.again"));
    this.#actions = h("div.answer-actions", {}, this.#copyButton(), this.#again);
    const mine = message.role === "user";
    this.element = h(
      `article.message.${message.role}`,
      { "aria-label": t(mine ? "chat.you" : "chat.answer") },
      mine
        ? h("p.said", {}, message.content)
        : [this.#prose.element, this.#complaint, h("footer", {}, this.#figures, this.#actions)],
    );
    this.draw();
  }

  /** Only the last answer can be asked for again. */
  set last(last) {
    this.#again.hidden = !last;
  }

  draw() {
    const { role, state, content, error } = this.#message;
    if (role === "user") return;
    this.element.dataset.state = state;
    set(this.element, "aria-busy", String(state === "streaming"));
    this.#prose.show(content);
    this.#complaint.hidden = !error;
    setText(this.#complaint, error ? advice(error, this.#i18n) : "");
    this.#actions.hidden = state === "streaming";
    this.#actions.firstChild.hidden = !content;
    this.#drawFigures();
  }

  #drawFigures() {
    const { t, format } = this.#i18n;
    const { figures, state } = this.#message;
    // A natural end needs no word.
    const early = ENDINGS[state] ?? (figures.finishReason === "length" ? "length" : null);
    const tokens = (cached) => (count) =>
      t(cached ? "answer.tokens.cached" : "answer.tokens.value", {
        count: format.number(count),
        cached: format.number(cached),
      });
    const ms = (value) => format.milliseconds(value).join(" ");
    const shown = [
      ["speed", figures.tokensPerSecond, (value) => t("answer.speed.value", { speed: format.number(value) })],
      ["ttft", figures.ttftMs, ms],
      ["queue", figures.queueMs, ms],
      ["prefill", figures.prefillMs, ms],
      ["prompt", figures.promptTokens, tokens(figures.cachedTokens)],
      ["tokens", figures.tokens || null, tokens(0)],
      ["end", early, (value) => t(`finish.${value}`)],
    ].filter(([, value]) => value != null);
    this.#figures.replaceChildren(
      ...shown.map(([name, value, show]) =>
        h("div", { dataset: { figure: name } }, h("dt", {}, t(`answer.${name}`)), h("dd", {}, show(value))),
      ),
    );
  }

  #copyButton() {
    const { t } = this.#i18n;
    const label = h("span", { "aria-live": "polite" }, t("chat.copy"));
    const onclick = async () => {
      await copy(this.#message.content);
      setText(label, t("chat.copied"));
      setTimeout(() => setText(label, t("chat.copy")), 1500);
    };
    return h("button.small", { type: "button", onclick }, icon("copy"), label);
  }
}

const ENDINGS = { stopped: "cancelled", failed: "error" };
