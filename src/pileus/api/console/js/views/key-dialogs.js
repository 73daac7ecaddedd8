// The three questions of the keys page. Each shows a dialog and resolves with the answer, or null where it was closed.

import { copy, h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { ask, field } from "./dialog.js";

const ROLES = ["user", "operator", "admin"];
const DAY_S = 86_400;

/** The fields of a new key. */
export function askForKey(i18n) {
  const { t } = i18n;
  const name = h("input", {
    id: "key-name",
    required: true,
    maxlength: "128",
    autocomplete: "off",
    placeholder: t("key.name.example"),
  });
  const role = h(
    "select",
    { id: "key-role" },
    ROLES.map((each) => h("option", { value: each }, t(`role.${each}.long`))),
  );
  const budget = h("input", { id: "key-budget", type: "number", min: "1", step: "1", placeholder: t("key.unlimited") });
  const days = h("input", { id: "key-days", type: "number", min: "1", step: "1", placeholder: t("key.never") });
  return ask(i18n, {
    title: t("key.create"),
    body: [
      field(name, t("key.name")),
      field(role, t("key.role")),
      h("div.field-pair", {}, field(budget, t("key.budget.long")), field(days, t("key.days"))),
    ],
    confirm: t("key.create"),
    cancel: t("dialog.cancel"),
    answer: () => ({
      name: name.value.trim(),
      role: role.value,
      ...(budget.value ? { token_budget: Number(budget.value) } : {}),
      ...(days.value ? { expires_at: Math.round(Date.now() / 1000 + Number(days.value) * DAY_S) } : {}),
    }),
  });
}

/** The secret, this one time. */
export function showSecret(i18n, { name, secret }) {
  const { t } = i18n;
  const value = h("input", {
    id: "key-secret",
    readonly: true,
    value: secret,
    "aria-describedby": "key-secret-hint",
    onfocus: () => value.select(),
  });
  const label = h("span", { "aria-live": "polite" }, t("chat.copy"));
  const onclick = async () => (await copy(secret), setText(label, t("chat.copied")));
  return ask(i18n, {
    title: t("key.made", { name }),
    body: [
      h("p", { id: "key-secret-hint" }, t("key.once")),
      h(
        "div.secret",
        {},
        h("label.visually-hidden", { for: "key-secret" }, t("key.secret")),
        value,
        h("button.primary", { type: "button", onclick }, icon("copy"), label),
      ),
    ],
    confirm: t("dialog.done"),
    look: "plain",
    answer: () => true,
  });
}

export function askToRevoke(i18n, key) {
  const { t } = i18n;
  return ask(i18n, {
    title: t("key.revoke.title", { name: key.name }),
    body: [h("p", {}, t("key.revoke.more"))],
    confirm: t("key.revoke"),
    cancel: t("dialog.cancel"),
    look: "danger",
    answer: () => true,
  });
}
