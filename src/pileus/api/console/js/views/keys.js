// Who may come in: the keys, a new one, and the end of one.

import { announce, h } from "../dom.js";
import { icon } from "../icons.js";
import { advice } from "../advice.js";
import { closeDialogs } from "./dialog.js";
import { askForKey, askToRevoke, showSecret } from "./key-dialogs.js";

export function showKeys(root, { i18n, api, session }) {
  const { t, format } = i18n;
  const body = h("tbody");
  const complaint = h("p.complaint", { role: "alert", hidden: true });
  const columns = ["name", "role", "budget", "created", "expires", "state"];
  const head = h(
    "tr",
    {},
    columns.map((column) => h("th", { scope: "col" }, t(`key.${column}`))),
    h("td"),
  );

  async function load() {
    await guarded(async () => {
      const { data } = await api.get("admin/v1/keys");
      body.replaceChildren(...data.toSorted(newestFirst).map(row));
    });
  }

  async function create() {
    const wish = await askForKey(i18n);
    if (!wish) return;
    await guarded(async () => {
      const { secret, name } = await api.post("admin/v1/keys", wish);
      await load();
      await showSecret(i18n, { name, secret });
    });
  }

  async function revoke(key) {
    if (!(await askToRevoke(i18n, key))) return;
    await guarded(async () => {
      await api.delete(`admin/v1/keys/${encodeURIComponent(key.id)}`);
      await load();
      announce(t("key.revoked.said", { name: key.name }));
    });
  }

  async function guarded(act) {
    complaint.hidden = true;
    try {
      await act();
    } catch (error) {
      complaint.hidden = false;
      complaint.textContent = advice(error, i18n);
    }
  }

  function used({ used_tokens: used, token_budget: budget }) {
    const figures = { used: format.compact(used), budget: format.compact(budget) };
    return t(budget === null ? "key.tokens.used" : "key.tokens.of", figures);
  }

  function row(key) {
    const state = stateOf(key);
    const cell = (name, ...children) => h("td", { dataset: { label: t(`key.${name}`) } }, children);
    const own = key.id === session.me.key_id;
    return h(
      `tr.${state}`,
      {},
      h(
        "th",
        { scope: "row" },
        h("span.key-name", {}, key.name, own && h("span.chip", {}, t("key.own"))),
        h("code", {}, key.id),
      ),
      cell("role", t(`role.${key.role}`)),
      cell("budget", used(key)),
      cell("created", format.date(key.created_at)),
      cell("expires", key.expires_at ? format.date(key.expires_at) : t("key.never")),
      cell("state", h("span.state", { dataset: { state } }, t(`key.${state}`))),
      h(
        "td.row-act",
        {},
        state === "active" &&
          h(
            "button.small.danger",
            { type: "button", onclick: () => revoke(key), "aria-label": t("key.revoke.named", { name: key.name }) },
            icon("trash"),
            t("key.revoke"),
          ),
      ),
    );
  }

  root.append(
    h(
      "div.page",
      {},
      h(
        "div.page-head",
        {},
        h("div", {}, h("h1", {}, t("nav.keys")), h("p.lead", {}, t("keys.lead"))),
        h("button.primary", { type: "button", onclick: create }, icon("plus"), t("key.create")),
      ),
      complaint,
      h(
        "div.card.table-card",
        {},
        h("table.keys", {}, h("caption.visually-hidden", {}, t("nav.keys")), h("thead", {}, head), body),
      ),
    ),
  );
  load();
  return { dispose: closeDialogs };
}

const newestFirst = (a, b) => b.created_at - a.created_at;

function stateOf({ revoked_at: revokedAt, expires_at: expiresAt }) {
  if (revokedAt) return "revoked";
  return expiresAt && expiresAt * 1000 < Date.now() ? "expired" : "active";
}
