// Elements without a framework. Text always becomes a text node: nothing here parses HTML, so nothing that a model or
// a server says can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** `h("button.primary", { type: "submit", onclick: send }, "Send")`; children that are false or null are left out. */
export function h(selector, props = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElement(tag), classes, props, children);
}

/** The same for SVG. */
export function s(selector, props = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  return fill(document.createElementNS(SVG, tag), classes, props, children);
}

function fill(element, classes, props, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Set one property: `onclick` listens, booleans toggle an attribute, the rest are attributes. */
export function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "value") element.value = value;
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (value === false || value == null) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Change text only where it differs, so that an unchanged figure costs no layout and no announcement. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const announcer = () => document.getElementById("announcer");

/** Say something to a screen reader, without moving the focus. */
export function announce(text) {
  announcer().textContent = text;
}

/** Copy text; where the page is not a secure context, through a selection. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea.visually-hidden", { value: text });
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
