/** Make `parent` show one kept child per item, in their order: `make()` for the new, `update(item)` for all, and the rest
 * leave. Rows are kept and changed in place: a live table that is built anew each second would take the focus and the selection away
 * from under the reader. Where the focus leaves with a child, it goes to the page. */
export function keep(kept, parent, items, key, make) {
  const names = new Set(items.map(key));
  for (const [name, child] of kept) {
    if (names.has(name)) continue;
    const focused = child.element.contains(document.activeElement);
    child.element.remove();
    kept.delete(name);
    if (focused) document.getElementById("main").focus();
  }
  items.forEach((item, index) => {
    if (!kept.has(key(item))) kept.set(key(item), make());
    const child = kept.get(key(item));
    const there = parent.children[index];
    if (there !== child.element) parent.insertBefore(child.element, there ?? null);
    child.update(item);
  });
}
