// The interface's words in the reader's language. A dictionary is fetched when its language is first wanted.

import { Format } from "./format.js";
import { Signal } from "./signal.js";

const LOCALES = { en: "en-US", zh: "zh-CN" };

export class I18n {
  changed = new Signal();
  language = null;
  format = null;
  #words = {};

  async use(language) {
    this.#words = (await import(`./locales/${language}.js`)).default;
    this.language = language;
    this.format = new Format(LOCALES[language]);
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    localStorage.setItem("pileus.language", language);
    this.changed.emit(language);
  }

  /** `t("deployment.waiting", { count: 3 })`: the words, with `{count}` filled in. */
  t = (key, values = {}) => (this.#words[key] ?? key).replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
}
