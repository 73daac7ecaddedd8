// Shows parsed Markdown as DOM nodes. While an answer grows, only the blocks that changed are built again: the words
// already read stay where they are, and so does a selection in them.

import { h } from "./dom.js";
import { parseBlocks, parseInline } from "./markdown.js";

export class MarkdownView {
  #drawn = []; // the serialised block of each child

  constructor() {
    this.element = h("div.prose");
  }

  show(source) {
    const blocks = parseBlocks(source);
    blocks.forEach((block, index) => {
      const drawn = JSON.stringify(block);
      if (this.#drawn[index] === drawn) return;
      const old = this.element.children[index];
      if (old) old.replaceWith(build(block));
      else this.element.append(build(block));
      this.#drawn[index] = drawn;
    });
    while (this.element.children.length > blocks.length) this.element.lastChild.remove();
    this.#drawn.length = blocks.length;
  }
}

function build(block) {
  switch (block.type) {
    case "heading":
      return h(
        "p.heading",
        { dataset: { level: block.level }, role: "heading", "aria-level": Math.min(6, block.level + 2) },
        inline(block.text),
      );
    case "code":
      return h("pre", { tabindex: "0", "aria-label": block.language || null }, h("code", {}, block.text));
    case "list":
      return h(block.ordered ? "ol" : "ul", block.start === 1 ? {} : { start: block.start }, block.items.map(item));
    case "quote":
      return h("blockquote", {}, inline(block.text));
    case "rule":
      return h("hr");
    default:
      return h("p", {}, inline(block.text));
  }
}

const item = ({ depth, text }) => h(`li.depth-${depth}`, {}, inline(text));

const TAGS = { code: "code", strong: "strong", emphasis: "em" };

/** Links are shown with their target and lead nowhere: what a model says must not be one click away from being run. */
function inline(text) {
  return parseInline(text).map((span) => {
    if (span.type === "text") return span.text;
    if (span.type === "link")
      return h("span.inert-link", { title: span.target }, span.text || span.target, h("small", {}, ` ${span.target}`));
    return h(TAGS[span.type], {}, span.text);
  });
}
