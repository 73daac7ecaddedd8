// A conversation with a model, beside the dials that shape its answers.

import { announce, h, set } from "../dom.js";
import { icon, mark } from "../icons.js";
import { advice } from "../advice.js";
import { Composer } from "./composer.js";
import { dialsPanel } from "./dials.js";
import { MessageView } from "./message.js";

const NEAR_END_PX = 80; // closer to the end than this, the view follows the answer

export function showPlayground(root, { i18n, api, conversation, parameters }) {
  const { t } = i18n;
  const narrow = matchMedia("(max-width: 960px)");
  const views = new Map(); // message -> MessageView
  const transcript = h("div.transcript", { role: "log", "aria-live": "off", "aria-label": t("chat.transcript"), tabindex: "0" });
  const models = h("select", { id: "chat-model", onchange: () => (parameters.model = models.value) });
  const count = h("span.badge", { hidden: true });
  const composer = new Composer(i18n, { send, stop: () => conversation.stop() });
  const dials = dialsPanel(i18n, parameters, { changed: showCount, close: () => toggleDials(false) });
  const dialsButton = h(
    "button.quiet",
    { type: "button", "aria-label": t("dials.title"), "aria-expanded": "true", "aria-controls": "dials", onclick: () => toggleDials(dials.element.hidden) },
    icon("dials"),
    h("span", {}, t("dials.title")),
    count,
  );
  const clear = h("button.quiet", { type: "button", "aria-label": t("chat.new"), onclick: () => (conversation.clear(), composer.focus()) }, icon("plus"), h("span", {}, t("chat.new")));

  function send(text) {
    if (!parameters.model || conversation.busy) return false;
    conversation.send(text, parameters.request());
    announce(t("chat.answering"));
    return true;
  }

  function regenerate() {
    if (conversation.busy) return;
    conversation.regenerate(parameters.request());
    composer.focus();
  }

  function draw() {
    const { messages } = conversation;
    for (const [message, view] of views) if (!messages.includes(message)) (view.element.remove(), views.delete(message));
    for (const message of messages) {
      if (views.has(message)) continue;
      const view = new MessageView(message, i18n, { regenerate });
      views.set(message, view);
      transcript.append(view.element);
    }
    welcome.hidden = messages.length > 0;
    clear.disabled = messages.length === 0;
    drawLast();
    transcript.scrollTop = transcript.scrollHeight;
  }

  function drawLast() {
    composer.busy = conversation.busy;
    conversation.messages.forEach((message, index, all) => (views.get(message).last = index === all.length - 1 && !conversation.busy));
  }

  const redraw = oncePerFrame((message) => {
    const following = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < NEAR_END_PX;
    views.get(message)?.draw();
    if (following) transcript.scrollTop = transcript.scrollHeight;
  });

  function grow(message) {
    redraw(message);
    if (message.state === "streaming") return;
    drawLast();
    announce(message.error ? advice(message.error, i18n) : `${t(`chat.${message.state}`)} ${message.content}`);
  }

  function showCount() {
    count.hidden = parameters.moved === 0;
    count.textContent = parameters.moved;
    set(dialsButton, "title", parameters.moved ? t("dials.moved", { count: parameters.moved }) : t("dials.title"));
  }

  function toggleDials(shown) {
    dials.element.hidden = !shown;
    set(dialsButton, "aria-expanded", String(shown));
    if (!shown) dialsButton.focus();
    else if (narrow.matches) dials.element.querySelector(".dials-close").focus();
  }

  async function loadModels() {
    try {
      const { data } = await api.get("v1/models");
      models.replaceChildren(...data.map(({ id }) => h("option", { value: id }, id)));
      if (!data.some(({ id }) => id === parameters.model)) parameters.model = data[0]?.id ?? null;
      if (parameters.model) models.value = parameters.model;
      else welcome.replaceChildren(h("p.complaint", {}, t("chat.nomodels")));
    } catch (error) {
      welcome.replaceChildren(h("p.complaint", { role: "alert" }, advice(error, i18n)));
    }
  }

  const welcome = welcomeBoard(t, (text) => send(text));
  transcript.append(welcome);
  root.append(
    h("h1.visually-hidden", {}, t("nav.playground")),
    h(
      "div.playground",
      {},
      h(
        "section.chat",
        { "aria-label": t("chat.label"), onkeydown: (event) => event.key === "Escape" && conversation.stop() },
        h("div.chat-bar", {}, h("label.visually-hidden", { for: "chat-model" }, t("chat.model")), models, h("span.spacer"), clear, dialsButton),
        transcript,
        composer.element,
      ),
      dials.element,
    ),
  );
  if (narrow.matches) {
    dials.element.hidden = true;
    set(dialsButton, "aria-expanded", "false");
  }
  const leave = [conversation.changed.on(draw), conversation.grew.on(grow)];
  draw();
  showCount();
  loadModels();
  if (!narrow.matches) composer.focus(); // where it would not raise a keyboard over half of the page
  return { dispose: () => leave.forEach((off) => off()) };
}

function welcomeBoard(t, ask) {
  const suggestions = ["one", "two", "three"].map((name) => t(`chat.suggestion.${name}`));
  return h(
    "div.welcome",
    {},
    mark(),
    h("h2", {}, t("chat.welcome")),
    h("p", {}, t("chat.welcome.more")),
    h("div.suggestions", {}, suggestions.map((text) => h("button", { type: "button", onclick: () => ask(text) }, text))),
  );
}

/** Tokens may come faster than the screen: draw the latest once a frame. */
function oncePerFrame(draw) {
  let waiting = false;
  return (value) => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw(value);
    });
  };
}
