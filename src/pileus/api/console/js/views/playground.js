// A conversation with a model, beside the dials that shape its answers.

import { announce, h } from "../dom.js";
import { icon } from "../icons.js";
import { advice } from "../advice.js";
import { Composer } from "./composer.js";
import { Dials } from "./dials.js";
import { Transcript } from "./transcript.js";

export function showPlayground(root, { i18n, api, conversation, parameters }) {
  const { t } = i18n;
  const composer = new Composer(i18n, conversation, send);
  const transcript = new Transcript(i18n, conversation, { ask: send, regenerate });
  const dials = new Dials(i18n, parameters);
  const models = h("select", { id: "chat-model", onchange: () => (parameters.model = models.value) });
  const startAnew = () => {
    conversation.clear();
    composer.focus();
  };
  const clear = h(
    "button.quiet",
    { type: "button", "aria-label": t("chat.new"), onclick: startAnew },
    icon("plus"),
    h("span", {}, t("chat.new")),
  );

  /** True where the text was taken. */
  function send(text) {
    if (!parameters.model || conversation.busy) return false;
    conversation.send(text, parameters.request());
    announce(t("chat.answering"));
    return true;
  }

  function regenerate() {
    if (!conversation.busy) conversation.regenerate(parameters.request());
    composer.focus();
  }

  function drawControls() {
    composer.busy = conversation.busy;
    clear.disabled = conversation.messages.length === 0;
  }

  root.append(
    h("h1.visually-hidden", {}, t("nav.playground")),
    h(
      "div.playground",
      {},
      h(
        "section.chat",
        { "aria-label": t("chat.label"), onkeydown: (event) => event.key === "Escape" && conversation.stop() },
        h(
          "div.chat-bar",
          {},
          h("label.visually-hidden", { for: "chat-model" }, t("chat.model")),
          models,
          h("span.spacer"),
          clear,
          dials.button,
        ),
        transcript.element,
        composer.element,
      ),
      dials.element,
    ),
  );
  const leave = [conversation.changed.on(drawControls), conversation.grew.on(drawControls)];
  transcript.draw();
  drawControls();
  fillModels(models, parameters, api).then(
    (found) => found || transcript.complain(t("chat.nomodels")),
    (error) => transcript.complain(advice(error, i18n)),
  );
  // Elsewhere it would raise a keyboard over half of the page.
  if (matchMedia("(pointer: fine)").matches) composer.focus();
  return {
    dispose() {
      leave.forEach((off) => off());
      transcript.dispose();
    },
  };
}

/** Offer the models that this key may use; false where there is none. */
async function fillModels(select, parameters, api) {
  const { data } = await api.get("v1/models");
  select.replaceChildren(...data.map(({ id }) => h("option", { value: id }, id)));
  if (!data.some(({ id }) => id === parameters.model)) parameters.model = data[0]?.id ?? null;
  if (parameters.model) select.value = parameters.model;
  return data.length > 0;
}
