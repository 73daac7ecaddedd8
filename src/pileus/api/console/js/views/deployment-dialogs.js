// What one does to deployments: each act is asked for in a dialog, which shows a refusal and then stays. Each resolves
// with the server's answer, or null where it was closed.

import { ApiError } from "../api.js";
import { advice } from "../advice.js";
import { h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { ask, field } from "./dialog.js";

const LOG_LINES = 200;
const path = (name) => `admin/v1/deployments/${encodeURIComponent(name)}`;
const count = (id, more) => h("input", { id, type: "number", min: "0", max: "64", step: "1", ...more });
const number = (input) => (input.value === "" ? null : Number(input.value));

/** `known` are the deployments that are there: their models and engines are suggested. */
export function askToDeploy(i18n, api, known) {
  const { t } = i18n;
  const suggestions = (id, key) =>
    h("datalist", { id }, [...new Set(known.map((each) => each[key]))].map((value) => h("option", { value })));
  const text = (id, more) => h("input", { id, autocomplete: "off", spellcheck: "false", maxlength: "128", ...more });
  const name = text("deploy-name", { required: true, placeholder: t("deploy.name.example") });
  const model = text("deploy-model", { required: true, list: "deploy-models" });
  const engine = text("deploy-engine", { required: true, list: "deploy-engines", value: "auto" });
  const replicas = count("deploy-replicas", { required: true, value: "1" });
  const least = count("deploy-min", { placeholder: t("deploy.none") });
  const most = count("deploy-max", { min: "1", placeholder: t("deploy.none") });
  const aliases = text("deploy-aliases");
  const options = h("textarea", { id: "deploy-options", rows: "3", spellcheck: "false" });
  return ask(i18n, {
    title: t("deploy.title"),
    body: [
      field(name, t("deploy.name"), t("deploy.name.hint")),
      field(model, t("deploy.model"), t("deploy.model.hint")),
      h(
        "div.field-pair",
        {},
        field(engine, t("deploy.engine"), t("deploy.engine.hint")),
        field(replicas, t("deploy.replicas")),
      ),
      h(
        "details.more",
        {},
        h("summary", {}, t("deploy.more")),
        h("div.field-pair", {}, field(least, t("deploy.min")), field(most, t("deploy.max"))),
        field(aliases, t("deploy.aliases"), t("deploy.aliases.hint")),
        field(options, t("deploy.options"), t("deploy.options.hint")),
      ),
      suggestions("deploy-models", "model"),
      suggestions("deploy-engines", "engine"),
    ],
    confirm: t("act.deploy"),
    cancel: t("dialog.cancel"),
    answer: () =>
      api.put(path(name.value.trim()), {
        name: name.value.trim(),
        model: model.value.trim(),
        engine: engine.value.trim(),
        replicas: number(replicas),
        min_replicas: number(least),
        max_replicas: number(most),
        aliases: aliases.value.split(/[\s,，]+/).filter(Boolean),
        long_texts: known.find((each) => each.name === name.value.trim())?.long_texts, // not asked for: it stays
        options: parsed(options.value, t),
      }),
  });
}

/** `NAME = VALUE` lines; a value that is no JSON is a text. */
function parsed(lines, t) {
  const option = (line) => {
    const [, name, value] = line.match(/^\s*(\w+)\s*=\s*(.*?)\s*$/) ?? [];
    if (!name) throw new ApiError(t("deploy.options.wrong", { line }));
    try {
      return [name, JSON.parse(value)];
    } catch {
      return [name, value];
    }
  };
  return Object.fromEntries(
    lines
      .split("\n")
      .filter((line) => line.trim())
      .map(option),
  );
}

export function askToScale(i18n, api, { name, desired, scaling }) {
  const { t } = i18n;
  const replicas = count("scale-replicas", { required: true, value: String(desired) });
  const bound = (value) => (value === undefined ? "" : String(value));
  const least = count("scale-min", { placeholder: t("deploy.none"), value: bound(scaling?.min_replicas) });
  const most = count("scale-max", { min: "1", placeholder: t("deploy.none"), value: bound(scaling?.max_replicas) });
  return ask(i18n, {
    title: t("scale.title", { name }),
    body: [
      field(replicas, t("deploy.replicas"), t("scale.hint")),
      h("div.field-pair", {}, field(least, t("deploy.min")), field(most, t("deploy.max"))),
      h("p.hint", {}, t("scale.bounds")),
    ],
    confirm: t("act.scale"),
    cancel: t("dialog.cancel"),
    answer: () =>
      api.patch(path(name), {
        replicas: number(replicas),
        min_replicas: number(least),
        max_replicas: number(most),
      }),
  });
}

export function askToRestart(i18n, api, { name }) {
  const { t } = i18n;
  return ask(i18n, {
    title: t("restart.title", { name }),
    body: [h("p", {}, t("restart.more"))],
    confirm: t("act.restart"),
    cancel: t("dialog.cancel"),
    answer: () => api.post(`${path(name)}/restart`),
  });
}

export function askToUndeploy(i18n, api, { name, in_settings: settled }) {
  const { t } = i18n;
  return ask(i18n, {
    title: t("undeploy.title", { name }),
    body: [h("p", {}, t("undeploy.more")), settled && h("p", {}, t("undeploy.settled"))],
    confirm: t("act.undeploy"),
    cancel: t("dialog.cancel"),
    look: "danger",
    answer: () => api.delete(path(name)),
  });
}

/** The last lines that a replica's process printed. */
export function showLog(i18n, api, deployment, replica) {
  const { t } = i18n;
  const title = t("log.title", { replica });
  const lines = h("pre.log", { tabindex: "0", role: "region", "aria-label": title });
  const load = async () => {
    try {
      const { data } = await api.get(`${path(deployment)}/logs?lines=${LOG_LINES}`);
      const found = data.find((each) => each.replica === replica)?.lines ?? [];
      setText(lines, found.join("\n") || t("log.empty"));
      lines.scrollTop = lines.scrollHeight;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setText(lines, advice(error, i18n));
    }
  };
  load();
  return ask(i18n, {
    title,
    kind: "wide",
    body: [lines, h("button.small", { type: "button", onclick: load }, icon("again"), t("log.again"))],
    confirm: t("dialog.done"),
    answer: () => true,
  });
}
