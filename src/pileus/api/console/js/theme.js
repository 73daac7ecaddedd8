// Light or dark: the system's wish until the reader says otherwise.

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Switch to the other one; a choice that agrees with the system is forgotten, so that the system leads again. */
export function toggleTheme() {
  const root = document.documentElement;
  const system = dark.matches ? "dark" : "light";
  const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  if (next === system) {
    delete root.dataset.theme;
    localStorage.removeItem("pileus.theme");
  } else {
    root.dataset.theme = next;
    localStorage.setItem("pileus.theme", next);
  }
}
