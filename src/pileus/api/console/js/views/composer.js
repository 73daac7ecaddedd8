// Where a message is written: Enter sends, Shift+Enter breaks the line, Esc stops the answer.

import { h, set } from "../dom.js";
import { icon } from "../icons.js";

export class Composer {
  #t;
  #conversation;
  #busy = false;

  /** `send(text)` tells whether it took the text. */
  constructor({ t }, conversation, send) {
    this.#t = t;
    this.#conversation = conversation;
    this.field = h("textarea", {
      id: "composer",
      rows: "1",
      value: conversation.draft,
      placeholder: t("chat.placeholder"),
      "aria-describedby": "composer-hint",
      oninput: () => this.#fit(),
      onkeydown: (event) => this.#onKey(event),
    });
    this.button = h("button.primary.round", { type: "submit" });
    this.element = h(
      "form.composer",
      { onsubmit: (event) => this.#onSubmit(event, send) },
      h(
        "div.composer-box",
        {},
        h("label.visually-hidden", { for: "composer" }, t("chat.message")),
        this.field,
        this.button,
      ),
      h("p.hint", { id: "composer-hint" }, t("chat.keys")),
    );
    this.busy = false;
  }

  /** While an answer is on its way, the button stops it; the next message can be written meanwhile. */
  set busy(busy) {
    if (busy === this.#busy && this.button.childElementCount) return;
    this.#busy = busy;
    this.button.replaceChildren(icon(busy ? "stop" : "send"));
    for (const name of ["aria-label", "title"]) set(this.button, name, this.#t(busy ? "chat.stop" : "chat.send"));
  }

  focus() {
    this.field.focus();
    this.#fit();
  }

  #onSubmit(event, send) {
    event.preventDefault();
    const text = this.field.value.trim();
    if (this.#busy) this.#conversation.stop();
    else if (text && send(text)) this.field.value = "";
    this.focus();
  }

  #onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // isComposing: Enter chooses a character
    event.preventDefault();
    if (!this.#busy) this.element.requestSubmit();
  }

  #fit() {
    this.#conversation.draft = this.field.value;
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}
