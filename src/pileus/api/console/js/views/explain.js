// Where a model looks as it reads: heat maps of a text, head by head, and attention worked by hand.

import { advice } from "../advice.js";
import { h, s } from "../dom.js";

const LOOK_MS = 400;
const ENGINES = ["native", "encoder"]; // whose graphs have attention that can be shown
const ENDED = ["succeeded", "failed", "cancelled", "expired"];

export function showExplain(root, { i18n, api }) {
  const { t } = i18n;
  const models = h("select", { id: "explain-model" });
  const text = h("textarea", { id: "explain-text", rows: "2", maxlength: "2000", required: true }, t("explain.sample"));
  const layer = h("select", { id: "explain-layer" });
  const head = h("select", { id: "explain-head" });
  const go = h("button.primary", { type: "submit" }, t("explain.go"));
  const complaint = h("p.complaint", { role: "alert", hidden: true });
  const picture = h("div.attention");
  const example = h("div.worked");
  const shown = h("section.card", { hidden: true }, pair(layer, head), picture, h("h2", {}, t("explain.hand")), example);
  let gone = false;
  let found = null;

  const form = h("form.card", { onsubmit: (event) => (event.preventDefault(), explain()) }, labelled(models, "model"));
  form.append(labelled(text, "text"), go, complaint);

  function labelled(input, name) {
    return h("div.field", {}, h("label", { for: input.id }, t(`explain.${name}`)), input);
  }

  function pair(...inputs) {
    for (const input of inputs) input.addEventListener("change", draw);
    return h("div.field-pair", {}, labelled(layer, "layer"), labelled(head, "head"));
  }

  async function explain() {
    go.disabled = true;
    complaint.hidden = true;
    try {
      const spec = { model: models.value, text: text.value };
      let job = await api.post("v1/jobs", { kind: "attention", spec });
      while (!ENDED.includes(job.state) && !gone) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        job = await api.get(`v1/jobs/${job.id}`);
      }
      if (gone) return;
      if (job.state !== "succeeded") throw new Error(job.error?.message ?? t(`job.state.${job.state}`));
      found = (await api.get(`admin/v1/evaluations/${job.id}`)).result;
      fill(layer, found.layers, found.layers - 1);
      fill(head, found.heads, 0);
      example.replaceChildren(...found.example.map(step));
      shown.hidden = false;
      draw();
    } catch (error) {
      complaint.hidden = false;
      complaint.textContent = error.code ? advice(error, i18n) : error.message;
    } finally {
      go.disabled = false;
    }
  }

  function draw() {
    const { tokens } = found;
    const chosen = found.maps.find((each) => each.layer === +layer.value && each.head === +head.value);
    const weights = Uint8Array.from(atob(chosen.weights), (character) => character.charCodeAt(0));
    const size = tokens.length;
    const cells = Array.from(weights, (weight, place) => {
      const [row, column] = [Math.floor(place / size), place % size];
      if (column > row && !weight) return null; // only an encoder looks ahead
      const says = `${tokens[row]} → ${tokens[column]}: ${i18n.format.percent(weight / 255)}`;
      const box = { x: column, y: row, width: 1, height: 1, "fill-opacity": (weight / 255).toFixed(3) };
      return s("rect", box, s("title", {}, says));
    });
    const label = t("explain.map", { layer: layer.value, head: head.value });
    const map = s("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label }, cells);
    picture.replaceChildren(h("ol", {}, tokens.map((token) => h("li", {}, token))), map);
  }

  function step({ name, rows }) {
    const cell = (value) => h("td", {}, value === null ? "–" : value.toFixed(4));
    const lines = rows.map((row) => h("tr", {}, row.map(cell)));
    return h("table", {}, h("caption", {}, t(`explain.step.${name}`)), h("tbody", {}, lines));
  }

  root.append(
    h("div.page", {}, h("div", {}, h("h1", {}, t("nav.attention")), h("p.lead", {}, t("explain.lead"))), form, shown),
  );
  api
    .get("admin/v1/deployments")
    .then(({ data }) => {
      const names = new Set(data.filter(({ engine }) => ENGINES.includes(engine)).map(({ model }) => model));
      models.replaceChildren(...Array.from(names, (name) => h("option", { value: name }, name)));
    })
    .catch((error) => ((complaint.hidden = false), (complaint.textContent = advice(error, i18n))));
  return { dispose: () => (gone = true) };
}

function fill(select, count, chosen) {
  select.replaceChildren(...Array.from({ length: count }, (_, number) => h("option", { value: number }, number)));
  select.value = String(chosen);
}
