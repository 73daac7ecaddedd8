// One version looked at closely: its card, its lineage, and for those who manage models what can be changed of it.

import { announce, h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { ask, field } from "./dialog.js";
import { LineageGraph } from "./lineage-graph.js";
import { size } from "./models.js";

const STAGES = ["candidate", "staging", "production", "retired"];
const PROSE = ["intended_use", "limits", "data", "notes"];
const HASH_DIGITS = 16;

export class ModelDetails {
  element;
  #i18n;
  #api;
  #onChanged;
  #version = null;
  #title = h("h2", { id: "version-title", tabindex: "-1" });
  #acts;
  #stage;
  #facts = h("dl.history");
  #prose = h("div.model-card");
  #graph;

  /** `onChanged()` is called when something was changed, `onClose()` when the reader has seen enough. */
  constructor(i18n, api, { manages, onChanged, onClose }) {
    const { t } = i18n;
    this.#i18n = i18n;
    this.#api = api;
    this.#onChanged = onChanged;
    this.#graph = new LineageGraph(i18n);
    this.#stage = h("select", { id: "version-stage", onchange: () => this.#askForStage() });
    this.#stage.append(...STAGES.map((stage) => h("option", { value: stage }, t(`model.stage.${stage}`))));
    const button = (name, symbol, onclick) => h("button.small", { type: "button", onclick }, icon(symbol), t(name));
    this.#acts = manages && [
      h("label.visually-hidden", { for: "version-stage" }, t("model.stage")),
      this.#stage,
      button("model.alias.add", "plus", () => this.#askForAlias()),
      button("model.sign", "check", () => this.#askToSign()),
    ];
    this.element = h(
      "section.card.version-details",
      {
        hidden: true,
        "aria-labelledby": "version-title",
        onkeydown: (event) => event.key === "Escape" && event.target.tagName !== "SELECT" && onClose(),
      },
      h(
        "header",
        {},
        this.#title,
        h(
          "button.icon-button",
          { type: "button", "aria-label": t("model.close"), title: t("model.close"), onclick: onClose },
          icon("close"),
        ),
      ),
      this.#acts && h("div.version-acts", { role: "group", "aria-label": t("model.acts") }, this.#acts),
      h("div.version-body", {}, h("div", {}, this.#facts, this.#prose), this.#graph.element),
    );
  }

  /** Raises the ApiError of what cannot be had. */
  async show({ model, number }) {
    const path = `admin/v1/models/${encodeURIComponent(model)}`;
    const [version, graph] = await Promise.all([
      this.#api.get(`${path}/versions/${number}`),
      this.#api.get(`${path}/lineage?version=${number}`),
    ]);
    this.#version = version;
    setText(this.#title, `${model}@${number}`);
    this.#stage.value = version.stage;
    this.#showFacts(version);
    this.#showCard(version.card);
    this.#graph.show(graph, version.id);
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }

  focus() {
    this.#title.focus();
  }

  #showFacts(version) {
    const { t, format } = this.#i18n;
    const signed = t(version.trusted ? "model.signed.trusted" : "model.signed.unknown", {
      key: version.signed_by.slice(0, HASH_DIGITS),
    });
    const facts = {
      aliases: version.aliases.join(", "),
      licence: version.licence || t("model.licence.none"),
      size: size(version.size_bytes, this.#i18n),
      made: format.date(version.created_at),
      job: version.job_id,
      source: version.source && version.source.slice(0, "sha256:".length + HASH_DIGITS),
      signature: version.signed_by ? signed : t("model.signed.not"),
      manifest: version.sha256.slice(0, HASH_DIGITS),
    };
    const shown = Object.entries(facts).filter(([, fact]) => fact);
    const figures = Object.entries(version.card.figures).toSorted();
    this.#facts.replaceChildren(
      ...shown.map(([name, fact]) => h("div", {}, h("dt", {}, t(`model.${name}`)), h("dd", {}, fact))),
      ...figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd.num", {}, format.number(value)))),
    );
  }

  #showCard(card) {
    const { t } = this.#i18n;
    const parts = PROSE.filter((name) => card[name]);
    this.#prose.replaceChildren(
      ...parts.flatMap((name) => [h("h3", {}, t(`model.${name}`)), h("p", {}, card[name])]),
    );
  }

  get #path() {
    const { model, number } = this.#version;
    return `admin/v1/models/${encodeURIComponent(model)}/versions/${number}`;
  }

  async #askForStage() {
    const { t } = this.#i18n;
    const stage = this.#stage.value;
    const name = this.#title.textContent;
    const done = await this.#ask({
      title: t("model.stage.title", { name, stage: t(`model.stage.${stage}`) }),
      body: [h("p", {}, t(`model.stage.${stage}.more`))],
      confirm: t("model.stage.confirm"),
      answer: () => this.#api.put(`${this.#path}/stage`, { stage }),
    });
    if (!done) this.#stage.value = this.#version.stage;
  }

  #askForAlias() {
    const { t } = this.#i18n;
    const alias = h("input", { id: "alias", required: true, maxlength: "128", autocomplete: "off", spellcheck: "false" });
    const { model, number } = this.#version;
    return this.#ask({
      title: t("model.alias.add"),
      body: [field(alias, t("model.alias"), t("model.alias.hint"))],
      confirm: t("model.alias.add"),
      answer: () => {
        const name = encodeURIComponent(alias.value.trim());
        return this.#api.put(`admin/v1/models/${encodeURIComponent(model)}/aliases/${name}`, { version: String(number) });
      },
    });
  }

  #askToSign() {
    const { t } = this.#i18n;
    return this.#ask({
      title: t("model.sign.title", { name: this.#title.textContent }),
      body: [h("p", {}, t("model.sign.more"))],
      confirm: t("model.sign"),
      answer: () => this.#api.post(`${this.#path}/sign`),
    });
  }

  /** Whether it was done; then all is shown anew. */
  async #ask(question) {
    const { t } = this.#i18n;
    const changed = await ask(this.#i18n, { ...question, cancel: t("dialog.cancel") });
    if (!changed) return false;
    await this.show(changed);
    await this.#onChanged();
    announce(t("model.changed", { name: this.#title.textContent }));
    return true;
  }
}
