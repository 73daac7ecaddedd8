// What stands around every view of a signed-in person: the bar with its tabs, language, theme and sign-out.

import { announce, h, set } from "./dom.js";
import { icon, mark } from "./icons.js";
import { toggleTheme } from "./theme.js";
import { showDeployments } from "./views/deployments.js";
import { showExplain } from "./views/explain.js";
import { showJobs } from "./views/jobs.js";
import { showKeys } from "./views/keys.js";
import { showModels } from "./views/models.js";
import { showOverview } from "./views/overview.js";
import { showPlayground } from "./views/playground.js";

const VIEWS = [
  { name: "overview", show: showOverview, needs: "status.read", icon: "pulse" },
  { name: "deployments", show: showDeployments, needs: "status.read", icon: "layers" },
  { name: "playground", show: showPlayground, needs: "generate", icon: "chat" },
  { name: "models", show: showModels, needs: "models.read", icon: "cube" },
  { name: "jobs", show: showJobs, needs: "jobs.read", icon: "tasks" },
  { name: "attention", show: showExplain, needs: "models.manage", icon: "eye" },
  { name: "keys", show: showKeys, needs: "keys.manage", icon: "key" },
];

/** `place` is what the views work with: i18n, session, api, live, jobs, conversation, parameters. */
export function showShell(root, place) {
  const {
    i18n: { t },
    session,
  } = place;
  const views = VIEWS.filter(({ needs }) => session.may(needs));
  const tabs = views.map((view) =>
    h(
      "a.tab",
      { href: `#/${view.name}`, dataset: { view: view.name } },
      icon(view.icon),
      h("span", {}, t(`nav.${view.name}`)),
    ),
  );
  const main = h("main", { id: "main", tabindex: "-1" });
  root.replaceChildren(
    h("a.skip-link", { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("nav.skip")),
    h(
      "header.bar",
      {},
      h("a.brand", { href: `#/${views[0]?.name ?? ""}`, "aria-label": t("nav.home") }, mark(), h("span", {}, "Pileus")),
      h("nav.tabs", { "aria-label": t("nav.label") }, tabs),
      h("div.bar-tools", {}, preferences(place.i18n), account(session, t)),
    ),
    main,
  );

  let view = null;
  const route = (event) => {
    const name = location.hash.replace(/^#\//, "");
    const chosen = views.find((each) => each.name === name) ?? views[0];
    view?.dispose();
    main.replaceChildren();
    if (!chosen) return;
    for (const tab of tabs) set(tab, "aria-current", tab.dataset.view === chosen.name ? "page" : false);
    document.title = `${t(`nav.${chosen.name}`)} · Pileus`;
    main.dataset.view = chosen.name;
    view = chosen.show(main, place);
    if (event) announce(t(`nav.${chosen.name}`));
    if (event && chosen.name !== "playground") main.focus();
  };
  addEventListener("hashchange", route);
  route();
  return {
    dispose() {
      removeEventListener("hashchange", route);
      view?.dispose();
    },
  };
}

/** Language and theme; also on the sign-in page. */
export function preferences(i18n) {
  const { t } = i18n;
  const other = i18n.language === "zh" ? "en" : "zh";
  const theme = iconButton("theme", t("theme"), toggleTheme);
  const language = h(
    "button.icon-button.language",
    {
      type: "button",
      lang: other === "zh" ? "zh-CN" : "en",
      title: t("language.other"),
      onclick: () => i18n.use(other),
    },
    t("language.other.short"),
  );
  return [language, theme];
}

function account(session, t) {
  const { name, role } = session.me;
  return [
    name && h("span.account", { title: t("account.role", { role }) }, name),
    iconButton("leave", t("account.signout"), () => session.signOut()),
  ];
}

function iconButton(name, title, onclick) {
  return h("button.icon-button", { type: "button", "aria-label": title, title, onclick }, icon(name));
}
