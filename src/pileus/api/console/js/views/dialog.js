// A question in a dialog of its own, and the fields that it is made of.

import { ApiError } from "../api.js";
import { advice } from "../advice.js";
import { h, set, setText } from "../dom.js";

/**
 * A native modal dialog: it keeps the focus, closes by Esc, and gives the focus back. Resolves with what `answer` gave,
 * or null where it was closed. `answer` may ask the server: what that refuses is shown, and the dialog stays.
 */
export function ask(i18n, { title, body, confirm, cancel, look = "primary", kind = "plain", answer }) {
  return new Promise((resolve) => {
    let result = null;
    const complaint = h("p.complaint", { role: "alert" });
    const submit = h(`button.${look}`, { type: "submit" }, confirm);
    const onsubmit = async (event) => {
      event.preventDefault();
      if (submit.ariaBusy === "true") return;
      submit.ariaBusy = "true";
      setText(complaint, "");
      try {
        result = await answer();
        dialog.close();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        setText(complaint, advice(error, i18n));
        complaint.scrollIntoView({ block: "center" });
      } finally {
        set(submit, "aria-busy", false);
      }
    };
    const dialog = h(
      `dialog.${kind}`,
      { "aria-labelledby": "dialog-title", onclose: () => (dialog.remove(), resolve(result)) },
      h(
        "form",
        { onsubmit },
        h("h2", { id: "dialog-title" }, title),
        body,
        complaint,
        h(
          "div.dialog-actions",
          {},
          cancel && h("button", { type: "button", onclick: () => dialog.close() }, cancel),
          submit,
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A field with its label, and a hint if there is one. */
export function field(input, label, hint = "") {
  if (hint) set(input, "aria-describedby", `${input.id}-hint`);
  return h(
    "div.field",
    {},
    h("label", { for: input.id }, label),
    input,
    hint && h("p.hint", { id: `${input.id}-hint` }, hint),
  );
}

/** Close whatever is asked: the view that asked goes. */
export function closeDialogs() {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
}
