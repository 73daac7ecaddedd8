// The messages of a conversation, in a list that follows the answer while it grows.

import { announce, h } from "../dom.js";
import { mark } from "../icons.js";
import { advice } from "../advice.js";
import { MessageView } from "./message.js";

const NEAR_END_PX = 80; // who reads further up than this is left alone

export class Transcript {
  #i18n;
  #conversation;
  #regenerate;
  #welcome;
  #views = new Map(); // message -> MessageView
  #leave;

  /** `ask(text)` sends a suggestion; `regenerate()` asks again for the last answer. */
  constructor(i18n, conversation, { ask, regenerate }) {
    const { t } = i18n;
    this.#i18n = i18n;
    this.#conversation = conversation;
    this.#regenerate = regenerate;
    this.#welcome = welcomeBoard(t, ask);
    this.element = h(
      "div.transcript",
      { role: "log", "aria-live": "off", "aria-label": t("chat.transcript"), tabindex: "0" },
      this.#welcome,
    );
    const redraw = oncePerFrame((message) => this.#redraw(message));
    this.#leave = [
      conversation.changed.on(() => this.draw()),
      conversation.grew.on((message) => {
        redraw(message);
        if (message.state !== "streaming") this.#onEnd(message);
      }),
    ];
  }

  /** Instead of suggestions: why nothing can be asked. */
  complain(text) {
    this.#welcome.replaceChildren(h("p.complaint", { role: "alert" }, text));
  }

  dispose() {
    this.#leave.forEach((off) => off());
  }

  draw() {
    const { messages } = this.#conversation;
    for (const [message, view] of this.#views) {
      if (messages.includes(message)) continue;
      view.element.remove();
      this.#views.delete(message);
    }
    for (const message of messages) {
      if (this.#views.has(message)) continue;
      const view = new MessageView(message, this.#i18n, { regenerate: this.#regenerate });
      this.#views.set(message, view);
      this.element.append(view.element);
    }
    this.#welcome.hidden = messages.length > 0;
    this.#markLast();
    this.element.scrollTop = this.element.scrollHeight;
  }

  #redraw(message) {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    this.#views.get(message)?.draw();
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.element.scrollTop = this.element.scrollHeight;
  }

  #onEnd(message) {
    const { t } = this.#i18n;
    this.#markLast();
    announce(message.error ? advice(message.error, this.#i18n) : `${t(`chat.${message.state}`)} ${message.content}`);
  }

  #markLast() {
    const { messages, busy } = this.#conversation;
    for (const message of messages) this.#views.get(message).last = message === messages.at(-1) && !busy;
  }
}

function welcomeBoard(t, ask) {
  const suggestions = ["one", "two", "three"].map((name) => t(`chat.suggestion.${name}`));
  return h(
    "div.welcome",
    {},
    mark(),
    h("h2", {}, t("chat.welcome")),
    h("p", {}, t("chat.welcome.more")),
    h(
      "div.suggestions",
      {},
      suggestions.map((text) => h("button", { type: "button", onclick: () => ask(text) }, text)),
    ),
  );
}

/** Tokens may come faster than the screen: draw the latest once a frame. */
function oncePerFrame(draw) {
  let waiting = false;
  return (value) => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(value);
    });
  };
}
