// The console's composition root: makes the session, and shows the sign-in or the views.

import { ApiError } from "./api.js";
import { announce, h } from "./dom.js";
import { I18n } from "./i18n.js";
import { Conversation } from "./conversation.js";
import { JobFeed } from "./job-feed.js";
import { LiveFeed } from "./live.js";
import { Parameters } from "./parameters.js";
import { Session } from "./session.js";
import { showShell } from "./shell.js";
import { showSignIn } from "./views/signin.js";

const root = document.getElementById("app");
const i18n = new I18n();
const session = new Session();

let current = null; // what is on the page: { dispose }
let workplace = null; // what one signed-in person works with; survives a change of language

function render(reason = null) {
  current?.dispose();
  root.replaceChildren();
  current = session.me ? showShell(root, { i18n, session, ...workplace }) : showSignIn(root, { i18n, session, reason });
}

session.changed.on((reason) => {
  workplace?.conversation.stop();
  const { api } = session;
  workplace = api && {
    api,
    live: new LiveFeed(api),
    jobs: new JobFeed(api),
    conversation: new Conversation(api),
    parameters: new Parameters(),
  };
  render(reason);
});

root.replaceChildren(h("div.splash", { "aria-busy": "true" }));
await i18n.use(document.documentElement.lang.slice(0, 2));
try {
  if (!(await session.resume())) render();
} catch (error) {
  if (!(error instanceof ApiError)) throw error;
  render(error);
}

i18n.changed.on(() => {
  render();
  root.querySelector(".language").focus();
  announce(i18n.t("language.changed"));
});
