// The panel of parameters (system prompt, sampling, limits) and the button that shows it. On a narrow screen it is a
// sheet over the conversation, closed at first.

import { h, set } from "../dom.js";
import { icon } from "../icons.js";
import { DIALS } from "../parameters.js";

const narrow = matchMedia("(max-width: 960px)");

export class Dials {
  #t;
  #parameters;
  #redraws = [];
  #badge = h("span.badge");

  constructor({ t }, parameters) {
    this.#t = t;
    this.#parameters = parameters;
    this.button = h(
      "button.quiet",
      { type: "button", "aria-label": t("dials.title"), "aria-controls": "dials", onclick: () => this.#toggle() },
      icon("dials"),
      h("span", {}, t("dials.title")),
      this.#badge,
    );
    this.element = h(
      "aside.dials",
      {
        id: "dials",
        "aria-labelledby": "dials-title",
        hidden: narrow.matches,
        onkeydown: (event) => event.key === "Escape" && this.#toggle(),
      },
      this.#header(),
      h(
        "div.dials-body",
        {},
        this.#text("system", 3),
        DIALS.map((dial) => this.#number(dial)),
        this.#text("stop", 2),
      ),
    );
    set(this.button, "aria-expanded", String(!this.element.hidden));
    this.#redraw();
  }

  #header() {
    const t = this.#t;
    const reset = () => {
      this.#parameters.reset();
      this.#redraw();
    };
    return h(
      "header",
      {},
      h("h2", { id: "dials-title" }, t("dials.title")),
      h("button.small", { type: "button", onclick: reset }, t("dials.reset")),
      h(
        "button.icon-button.dials-close",
        { type: "button", "aria-label": t("dials.close"), onclick: () => this.#toggle() },
        icon("close"),
      ),
    );
  }

  #toggle() {
    const shown = this.element.hidden;
    this.element.hidden = !shown;
    set(this.button, "aria-expanded", String(shown));
    if (!shown) this.button.focus();
    else if (narrow.matches) this.element.querySelector(".dials-close").focus();
  }

  #redraw() {
    for (const redraw of this.#redraws) redraw();
    this.#count();
  }

  /** Tell how many dials were moved: they may be out of sight. */
  #count() {
    const count = this.#parameters.moved;
    this.#badge.hidden = count === 0;
    this.#badge.textContent = count;
    set(this.button, "title", count ? this.#t("dials.moved", { count }) : this.#t("dials.title"));
  }

  #text(key, rows) {
    const field = h("textarea", { rows, spellcheck: "false" });
    field.addEventListener("input", () => {
      this.#parameters[key] = field.value;
      this.#count();
    });
    this.#redraws.push(() => (field.value = this.#parameters[key]));
    return this.#labelled("div.dial", key, field);
  }

  #number({ key, min, max, step, neutral, slider }) {
    const bounds = { min, max, step };
    const placeholder = neutral === null ? this.#t(`dial.${key}.neutral`) : null;
    const field = h("input", { type: "number", inputmode: "decimal", placeholder, ...bounds });
    const range = slider && h("input", { type: "range", "aria-label": this.#t(`dial.${key}`), ...bounds });
    const slide = (value) => {
      if (!range) return;
      range.value = value;
      range.style.setProperty("--fill", `${(100 * (value - min)) / (max - min)}%`);
    };
    const take = () => {
      set(field, "aria-invalid", field.validity.valid ? null : "true");
      if (!field.validity.valid) return;
      const value = field.value === "" ? neutral : Number(field.value);
      this.#parameters.values[key] = value;
      slide(value);
      this.#count();
    };
    field.addEventListener("input", take);
    if (range) range.addEventListener("input", () => ((field.value = range.value), take()));
    this.#redraws.push(() => {
      field.value = this.#parameters.values[key] ?? "";
      take();
    });
    return this.#labelled("div.dial.number", key, field, range);
  }

  #labelled(selector, key, field, ...others) {
    const hint = h("p.hint", { id: `dial-${key}-hint` }, this.#t(`dial.${key}.hint`));
    set(field, "id", `dial-${key}`);
    set(field, "aria-describedby", hint.id);
    return h(selector, {}, h("label", { for: field.id }, this.#t(`dial.${key}`)), field, others, hint);
  }
}
