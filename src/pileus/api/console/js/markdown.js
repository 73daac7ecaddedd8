// A small part of Markdown, parsed to plain records. What it does not know stays text; nothing is ever raw HTML.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6}) +(\S.*)$/;
const BULLET = /^( *)[-*+]\s+(.*)$/;
const NUMBERED = /^( *)(\d{1,9})[.)]\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,}\s*$/;

/**
 * Blocks: `{ type: "paragraph" | "quote", text }`, `{ type: "heading", level, text }`,
 * `{ type: "code", language, text }`, `{ type: "list", ordered, start, items }`, `{ type: "rule" }`.
 * An unfinished fence is code to the end: it is still being written.
 */
export function parseBlocks(source) {
  const lines = source.split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const reader = READERS.find(({ starts }) => starts.test(line));
    if (!line.trim()) at += 1;
    else at = (reader?.read ?? readParagraph)(lines, at, blocks);
  }
  return blocks;
}

const READERS = [
  { starts: FENCE, read: readCode },
  { starts: HEADING, read: readHeading },
  { starts: RULE, read: (lines, at, blocks) => (blocks.push({ type: "rule" }), at + 1) },
  { starts: BULLET, read: (lines, at, blocks) => readList(lines, at, blocks, BULLET) },
  { starts: NUMBERED, read: (lines, at, blocks) => readList(lines, at, blocks, NUMBERED) },
  { starts: QUOTE, read: readQuote },
];

function readCode(lines, at, blocks) {
  const [, fence, language] = FENCE.exec(lines[at]);
  const closes = (line) => line.trim().startsWith(fence) && !line.trim().slice(fence.length).replaceAll(fence[0], "");
  let end = at + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  blocks.push({ type: "code", language, text: lines.slice(at + 1, end).join("\n") });
  return end + 1;
}

function readHeading(lines, at, blocks) {
  const [, marks, text] = HEADING.exec(lines[at]);
  blocks.push({ type: "heading", level: marks.length, text });
  return at + 1;
}

function readList(lines, at, blocks, pattern) {
  const ordered = pattern === NUMBERED;
  const start = ordered ? Number(NUMBERED.exec(lines[at])[2]) : 1;
  const items = [];
  for (; at < lines.length; at += 1) {
    const item = pattern.exec(lines[at]);
    if (item) items.push({ depth: Math.min(4, item[1].length >> 1), text: item.at(-1) });
    else if (items.length && /^ {2,}\S/.test(lines[at])) items.at(-1).text += `\n${lines[at].trim()}`;
    else if (lines[at].trim() || !pattern.test(lines[at + 1] ?? "")) break;
  }
  blocks.push({ type: "list", ordered, start, items });
  return at;
}

function readQuote(lines, at, blocks) {
  const text = [];
  for (; at < lines.length && QUOTE.test(lines[at]); at += 1) text.push(QUOTE.exec(lines[at])[1]);
  blocks.push({ type: "quote", text: text.join("\n") });
  return at;
}

function readParagraph(lines, at, blocks) {
  const text = [];
  for (; at < lines.length && lines[at].trim(); at += 1) {
    if (text.length && READERS.some(({ starts }) => starts.test(lines[at]))) break;
    text.push(lines[at]);
  }
  blocks.push({ type: "paragraph", text: text.join("\n") });
  return at;
}

// Every repetition is bounded: a model that says "`" ten thousand times must not cost the tab a cubic search.
const INLINE = new RegExp(
  [
    /(`{1,3})(.{1,400}?)\1/, // code
    /\*\*(?=\S)(.{1,400}?)\*\*/, // strong
    /(?<![\w*])\*(?=[^\s*])(.{1,400}?)\*(?!\*)/, // emphasis
    /!?\[([^\]\n]{0,200})\]\(([^)\s]{1,400})\)/, // link, picture
  ]
    .map(({ source }) => source)
    .join("|"),
  "su",
);

/** Spans: `{ type: "text" | "code" | "strong" | "emphasis", text }` and `{ type: "link", text, target }`. */
export function parseInline(text) {
  const spans = [];
  for (let rest = text; rest;) {
    const match = INLINE.exec(rest);
    if (!match) return [...spans, { type: "text", text: rest }];
    if (match.index) spans.push({ type: "text", text: rest.slice(0, match.index) });
    const [all, , code, strong, emphasis, label, target] = match;
    if (code !== undefined) spans.push({ type: "code", text: code });
    else if (strong !== undefined) spans.push({ type: "strong", text: strong });
    else if (emphasis !== undefined) spans.push({ type: "emphasis", text: emphasis });
    else spans.push({ type: "link", text: label, target });
    rest = rest.slice(match.index + all.length);
  }
  return spans;
}
