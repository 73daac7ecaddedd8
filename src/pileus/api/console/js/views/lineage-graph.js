// Lineage as a picture, from left to right: data and jobs, versions, deployments. For those who do not see it, as a list.

import { h, s } from "../dom.js";

const BOX = { width: 168, height: 46 };
const GAP = { x: 56, y: 18 };
const MOST_LETTERS = 22;
const WORDS = ["version", "dataset", "job", "deployment", "artefact", "source"];

export class LineageGraph {
  element;
  #i18n;
  #picture;
  #words = h("ul.visually-hidden");

  constructor(i18n) {
    this.#i18n = i18n;
    const { t } = i18n;
    this.#picture = h("div.lineage-picture", { "aria-hidden": "true" });
    this.element = h(
      "div.lineage",
      { tabindex: "0", role: "region", "aria-label": t("model.lineage") },
      this.#picture,
      this.#words,
    );
  }

  /** `graph` has nodes, parents before children, and edges between `kind:id`s; `chosen` is the version looked at. */
  show({ nodes, edges }, chosen) {
    const key = ({ kind, id }) => `${kind}:${id}`;
    const places = placed(nodes.map(key), edges);
    const right = Math.max(...[...places.values()].map(({ x }) => x)) + BOX.width;
    const bottom = Math.max(...[...places.values()].map(({ y }) => y)) + BOX.height;
    const picture = s("svg", { width: right + 2, height: bottom + 2, viewBox: `-1 -1 ${right + 2} ${bottom + 2}` });
    picture.append(...edges.map(({ child, parent }) => line(places.get(parent), places.get(child))));
    picture.append(...nodes.map((node) => this.#box(node, places.get(key(node)), node.id === chosen)));
    this.#picture.replaceChildren(picture);
    const labels = new Map(nodes.map((node) => [key(node), `${this.#kind(node)} ${node.label}`]));
    this.#words.replaceChildren(
      ...edges.map(({ child, parent, relation }) => h("li", {}, `${labels.get(child)}: ${relation} ${labels.get(parent)}`)),
    );
  }

  #kind({ kind }) {
    return WORDS.includes(kind) ? this.#i18n.t(`model.node.${kind}`) : kind;
  }

  #box(node, { x, y }, chosen) {
    const { t } = this.#i18n;
    const detail = node.kind === "version" && t(`model.stage.${node.detail}`);
    const label = node.label.length > MOST_LETTERS ? `${node.label.slice(0, MOST_LETTERS - 1)}…` : node.label;
    return s(
      `g.lineage-node${chosen ? ".chosen" : ""}`,
      { "data-kind": node.kind, transform: `translate(${x} ${y})` },
      s("title", {}, node.label),
      s("rect", { width: BOX.width, height: BOX.height, rx: 8 }),
      s("text.lineage-kind", { x: 12, y: 18 }, [this.#kind(node), detail].filter(Boolean).join(" · ")),
      s("text", { x: 12, y: 36 }, label),
    );
  }
}

/** Each as far to the right as its furthest parent asks, and in the order of `keys` from top to bottom. */
function placed(keys, edges) {
  const levels = new Map();
  for (const key of keys) {
    const parents = edges.filter(({ child }) => child === key).map(({ parent }) => levels.get(parent) ?? -1);
    levels.set(key, Math.max(-1, ...parents) + 1);
  }
  const filled = [];
  return new Map(
    keys.map((key) => {
      const level = levels.get(key);
      filled[level] = (filled[level] ?? -1) + 1;
      return [key, { x: level * (BOX.width + GAP.x), y: filled[level] * (BOX.height + GAP.y) }];
    }),
  );
}

function line(from, to) {
  const [x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2];
  const [x2, y2] = [to.x, to.y + BOX.height / 2];
  const bend = (x1 + x2) / 2;
  return s("path.lineage-line", { d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}` });
}
