// Light or dark: the system's wish until the reader says otherwise.

const dark = matchMedia("(prefers-color-scheme: dark)");

export function currentTheme() {
  return document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
}

/** Switch to the other one; a choice that agrees with the system is forgotten, so that the system leads again. */
export function toggleTheme() {
  const next = currentTheme() === "dark" ? "light" : "dark";
  if (next === (dark.matches ? "dark" : "light")) {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("pileus.theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("pileus.theme", next);
  }
}
