// Runs before the first paint, so that a remembered theme and language never flash past the wrong one.
(() => {
  const root = document.documentElement;
  const theme = localStorage.getItem("pileus.theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const language = localStorage.getItem("pileus.language") ?? navigator.language;
  root.lang = language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
})();
