// A filter: one value, or all.

import { h, set } from "../dom.js";

/** Let the select have these values, and the one for all. `name(value)` is what people call it; what is chosen stays so
 * unless `chosen` says which. */
export function offer(select, values, { all, name = (value) => value, chosen = select.value }) {
  const there = [...select.options].map(({ value }) => value);
  if (String(there) !== String(["", ...values])) {
    select.replaceChildren(
      h("option", { value: "" }, all),
      ...values.map((value) => h("option", { value }, name(value))),
    );
  }
  const value = values.includes(chosen) ? chosen : "";
  if (select.value !== value) set(select, "value", value);
}
