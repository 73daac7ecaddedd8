// The panel of parameters: system prompt, sampling, limits.

import { h, set } from "../dom.js";
import { icon } from "../icons.js";
import { DIALS } from "../parameters.js";

export function dialsPanel({ t }, parameters, { changed, close }) {
  const redraws = [];
  const redraw = () => (redraws.forEach((each) => each()), changed());
  const reset = () => (parameters.reset(), redraw());

  function text(key, rows) {
    const field = h("textarea", { id: `dial-${key}`, rows, spellcheck: "false", "aria-describedby": `dial-${key}-hint`, oninput: () => ((parameters[key] = field.value), changed()) });
    redraws.push(() => (field.value = parameters[key]));
    return h("div.dial", {}, h("label", { for: field.id }, t(`dial.${key}`)), field, h("p.hint", { id: `dial-${key}-hint` }, t(`dial.${key}.hint`)));
  }

  function number(dial) {
    const { key, min, max, step, neutral, slider } = dial;
    const take = (raw) => {
      const value = raw === "" ? neutral : Number(raw);
      if (!field.validity.valid) return set(field, "aria-invalid", "true");
      set(field, "aria-invalid", null);
      parameters.values[key] = value;
      slide(value);
      return changed();
    };
    const slide = (value) => {
      if (!range) return;
      range.value = value;
      range.style.setProperty("--fill", `${(100 * (value - min)) / (max - min)}%`);
    };
    const shared = { min, max, step };
    const field = h("input", { id: `dial-${key}`, type: "number", inputmode: "decimal", placeholder: neutral === null ? t(`dial.${key}.neutral`) : null, "aria-describedby": `dial-${key}-hint`, ...shared, oninput: () => take(field.value) });
    const range = slider && h("input", { type: "range", "aria-label": t(`dial.${key}`), ...shared, oninput: () => ((field.value = range.value), take(range.value)) });
    redraws.push(() => {
      field.value = parameters.values[key] ?? "";
      slide(parameters.values[key]);
      set(field, "aria-invalid", null);
    });
    const hint = h("p.hint", { id: `dial-${key}-hint` }, t(`dial.${key}.hint`));
    return h("div.dial.number", {}, h("label", { for: field.id }, t(`dial.${key}`)), field, range, hint);
  }

  const element = h(
    "aside.dials",
    { id: "dials", "aria-labelledby": "dials-title", onkeydown: (event) => event.key === "Escape" && close() },
    h(
      "header",
      {},
      h("h2", { id: "dials-title" }, t("dials.title")),
      h("button.small", { type: "button", onclick: reset }, t("dials.reset")),
      h("button.icon-button.dials-close", { type: "button", "aria-label": t("dials.close"), onclick: close }, icon("close")),
    ),
    h("div.dials-body", {}, text("system", 3), DIALS.map(number), text("stop", 2)),
  );
  redraws.forEach((each) => each());
  return { element };
}
