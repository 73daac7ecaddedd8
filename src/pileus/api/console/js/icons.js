// The few pictures of the console, drawn with one pen: 24 units, 1.6 wide, round ends.

import { s } from "./dom.js";

const PATHS = {
  pulse: "M3 12.5h4l2.5-7 5 13 2.5-6H21",
  layers: "M12 3.5 3 8.5l9 5 9-5ZM3.5 13l8.5 4.7 8.5-4.7M3.5 17l8.5 4.7 8.5-4.7",
  chat: "M4 5h16v12h-8l-4.5 3.5V17H4Z",
  cube: "M12 3.5 4.5 7.7v8.6l7.5 4.2 7.5-4.2V7.7ZM4.8 7.9 12 12l7.2-4.1M12 12v8.2",
  tasks: "M4 6.5 5.5 8 8.5 5M4 12.5 5.5 14l3-3M12 6.5h8.5M12 12.5h8.5M12 18.5h8.5M5 18.5h2",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z",
  key: "M14.5 3.5a6 6 0 1 1-4.9 9.4L3.5 19v1.5H7V18h2.5v-2.5h1.6M15.5 8.5h.01",
  theme: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16ZM12 4v16M13.8 4.5v15M15.6 5v14M17.4 6.4v11.2M19 8.5v7",
  leave: "M14 4.5H6A1.5 1.5 0 0 0 4.5 6v12A1.5 1.5 0 0 0 6 19.5h8M10 12h10.5M17 8l4 4-4 4",
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7.5 7.5h9v9h-9Z",
  copy: "M9 9h10.5v10.5H9ZM15 9V4.5H4.5V15H9",
  again: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L19.5 9M19.5 4v5h-5",
  check: "M5 12.5 10 17.5 19.5 7",
  dials: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
  resize: "M5 20v-6M12 20V4M19 20V10",
  log: "M5 6h14M5 10.5h14M5 15h14M5 19.5h8",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.5v13l10.5-6.5Z",
  warning: "M12 4 2.8 19.5h18.4ZM12 10v4.5M12 17h.01",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
};

export function icon(name) {
  return s(
    "svg",
    { class: `icon icon-${name}`, viewBox: "0 0 24 24", "aria-hidden": "true" },
    s("path", { d: PATHS[name] }),
  );
}

/** The sign of the house: a cumulus, and the cap cloud above it. */
export function mark() {
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("path", {
      class: "mark-cap",
      d: "M4.6 12.2C8.2 7.6 11.9 5.4 16 5.4s7.8 2.2 11.4 6.8C23.7 9.4 20 8 16 8s-7.7 1.4-11.4 4.2Z",
    }),
    s("path", {
      class: "mark-cloud",
      d: "M8.6 27.6a5.2 5.2 0 0 1-1-10.3 5 5 0 0 1 3-3.6 6.2 6.2 0 0 1 10.8 0 5 5 0 0 1 3 3.6 5.2 5.2 0 0 1-1 10.3Z",
    }),
  );
}
