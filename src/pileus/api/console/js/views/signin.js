// The door: one field, and a word about why one stands before it.

import { h, set, setText } from "../dom.js";
import { mark } from "../icons.js";
import { advice } from "../advice.js";
import { preferences } from "../shell.js";

/** `reason` is why the last visit ended: null, or an ApiError. */
export function showSignIn(root, { i18n, session, reason }) {
  const { t } = i18n;
  document.title = `${t("signin.title")} · Pileus`;
  const complaint = h("p.complaint", { id: "signin-complaint", role: "alert" }, reason ? advice(reason, i18n) : "");
  const field = h("input", {
    id: "signin-key",
    type: "password",
    name: "key",
    autocomplete: "current-password",
    spellcheck: "false",
    required: true,
    placeholder: "sk-pileus-…",
    "aria-describedby": "signin-hint signin-complaint",
  });
  const button = h("button.primary", { type: "submit" }, t("signin.submit"));

  async function submit(event) {
    event.preventDefault();
    const key = field.value.trim();
    if (!key) return field.focus();
    set(button, "aria-busy", "true");
    setText(complaint, "");
    try {
      await session.signIn(key);
    } catch (error) {
      setText(complaint, advice(error, i18n));
      set(field, "aria-invalid", "true");
      field.select();
    } finally {
      set(button, "aria-busy", null);
    }
    return undefined;
  }

  root.append(
    h(
      "div.door",
      {},
      h("div.door-tools", {}, preferences(i18n)),
      h(
        "main.door-card",
        {},
        mark(),
        h("h1", {}, t("signin.heading")),
        h("p.door-lead", {}, t("signin.lead")),
        h(
          "form",
          { onsubmit: submit, novalidate: true },
          // Password managers want to know whose it is.
          h("input", { type: "text", name: "username", autocomplete: "username", value: "pileus", hidden: true }),
          h("label", { for: "signin-key" }, t("signin.key")),
          field,
          h("p.hint", { id: "signin-hint" }, t("signin.hint")),
          complaint,
          button,
        ),
      ),
    ),
  );
  field.focus();
  return { dispose() {} };
}
