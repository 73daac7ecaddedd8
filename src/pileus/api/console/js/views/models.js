// Models with their versions; and one of these closely: its card, and where it comes from and went.

import { advice } from "../advice.js";
import { h, set } from "../dom.js";
import { icon } from "../icons.js";
import { closeDialogs } from "./dialog.js";
import { ModelDetails } from "./model-details.js";

const COLUMNS = ["version", "stage", "aliases", "size", "made"];

/** Bytes as people read them. */
export function size(bytes, { format }) {
  const [unit, name] = UNITS.find(([unit]) => bytes >= unit) ?? [1, "B"];
  return `${format.number(bytes / unit)} ${name}`;
}

export function showModels(root, { i18n, api, session }) {
  const { t, format } = i18n;
  let chosen = null; // id of the version that is looked at
  let buttons = new Map(); // by id of the version
  const list = h("div.model-list");
  const complaint = h("p.complaint", { role: "alert" });
  const details = new ModelDetails(i18n, api, { manages: session.may("models.manage"), onChanged: load, onClose: close });

  async function load() {
    await guarded(async () => {
      const { data } = await api.get("admin/v1/models");
      buttons = new Map();
      list.replaceChildren(...(data.length ? data.map(card) : [h("p.empty", {}, t("models.none"), h("code", {}, IMPORT))]));
      mark();
    });
  }

  async function open(version) {
    await guarded(async () => {
      await details.show(version);
      chosen = version.id;
      mark();
      details.focus();
    });
  }

  function close() {
    const button = buttons.get(chosen);
    details.hide();
    chosen = null;
    mark();
    (button ?? document.getElementById("main")).focus();
  }

  async function guarded(act) {
    complaint.textContent = "";
    try {
      await act();
    } catch (error) {
      complaint.textContent = advice(error, i18n);
    }
  }

  function mark() {
    for (const [id, button] of buttons) {
      set(button, "aria-pressed", String(id === chosen));
      button.closest("tr").classList.toggle("chosen", id === chosen);
    }
  }

  function card(model) {
    const head = COLUMNS.map((column) => h("th", { scope: "col" }, t(`model.${column}`)));
    return h(
      "section.card.table-card",
      { "aria-label": model.name },
      h("header.model-head", {}, h("h2", {}, model.name), h("p.chips", {}, chips(model))),
      h("table.versions", {}, h("thead", {}, h("tr", {}, head, h("td"))), h("tbody", {}, model.versions.map(row))),
    );
  }

  function chips({ kind, licence }) {
    return [t(`model.kind.${kind}`), licence].filter(Boolean).map((text) => h("span.chip", {}, text));
  }

  function row(version) {
    const name = `${version.model}@${version.number}`;
    const cell = (column, ...children) => h("td", { dataset: { label: t(`model.${column}`) } }, children);
    const button = h(
      "button.small",
      { type: "button", "aria-label": t("model.details.of", { name }), onclick: () => open(version) },
      icon("log"),
      t("model.details"),
    );
    buttons.set(version.id, button);
    const { stage } = version;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, String(version.number)),
      cell("stage", h("span.state", { dataset: { state: TONES[stage] ?? "stopped" } }, t(`model.stage.${stage}`))),
      cell("aliases", h("span.chips", {}, version.aliases.map((alias) => h("span.chip", {}, alias)))),
      cell("size", size(version.size_bytes, i18n), !version.installed && h("p.hint", {}, t("model.absent"))),
      cell("made", format.date(version.created_at)),
      h("td.row-act", {}, button),
    );
  }

  root.append(
    h(
      "div.page",
      {},
      h(
        "div.page-head",
        {},
        h("div", {}, h("h1", {}, t("nav.models")), h("p.lead", {}, t("models.lead"))),
        h("div.page-tools", {}, h("button", { type: "button", onclick: load }, icon("again"), t("models.again"))),
      ),
      complaint,
      details.element,
      list,
    ),
  );
  load();
  return { dispose: closeDialogs };
}

const UNITS = [
  [1e9, "GB"],
  [1e6, "MB"],
  [1e3, "kB"],
];
const IMPORT = "pileus models import ./model.gguf my-model";
const TONES = { production: "ready", staging: "starting", candidate: "starting" };
