// Whether the figures are live, and the button that holds them still.

import { h, set } from "../dom.js";
import { icon } from "../icons.js";
import { advice } from "../advice.js";

export class Pulse {
  #i18n;
  #live;
  #pulse = h("p.pulse");
  #pause = h("button.quiet", { type: "button", onclick: () => (this.#live.paused = !this.#live.paused) });
  elements = [this.#pulse, this.#pause];

  constructor(i18n, live) {
    this.#i18n = i18n;
    this.#live = live;
  }

  update() {
    const { t } = this.#i18n;
    const { phase, error, paused } = this.#live;
    const text = phase === "lost" ? t("live.lost", { why: advice(error, this.#i18n) }) : t(`live.${phase}`);
    set(this.#pulse, "data-phase", phase);
    if (this.#pulse.textContent !== text) this.#pulse.replaceChildren(h("i"), text);
    const word = paused ? "resume" : "pause";
    if (this.#pause.dataset.word === word) return;
    this.#pause.dataset.word = word;
    this.#pause.replaceChildren(icon(paused ? "play" : "pause"), t(`overview.${word}`));
  }
}
