// What an automatic check of accessibility can see, as a list of problems. Contrast is taken against the nearest opaque
// background, and where there is none against both ends of the sky.
() => {
  const problems = [];
  const visible = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length;
  const all = (selector) => [...document.querySelectorAll(selector)].filter(visible);
  if (all("h1").length !== 1) problems.push(`${all("h1").length} h1`);
  if (!document.documentElement.lang) problems.push("no language");
  if (all("main").length !== 1) problems.push("not one main");
  for (const field of all("input, select, textarea")) {
    if (!field.labels.length && !field.ariaLabel) problems.push(`no label: ${field.outerHTML}`);
  }
  for (const act of all("button, a")) {
    if (!(act.ariaLabel || act.innerText).trim()) problems.push(`no name: ${act.outerHTML}`);
  }
  for (const svg of all("svg")) {
    if (!svg.closest("[aria-hidden=true]")) problems.push(`read aloud: ${svg.outerHTML.slice(0, 80)}`);
  }
  const ids = all("[id]").map(({ id }) => id);
  if (new Set(ids).size !== ids.length) problems.push("an id twice");

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const bytes = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const probe = document.body.appendChild(document.createElement("i"));
  const resolve = (colour) => ((probe.style.color = colour), bytes(getComputedStyle(probe).color));
  const over = ([r, g, b, a], below) => [r, g, b].map((channel, index) => (channel * a + below[index] * (255 - a)) / 255);
  const luminance = (rgb) => {
    const linear = (share) => (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((channel) => linear(channel / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backgrounds = (element) => {
    if (!element) return [resolve("var(--sky-high)"), resolve("var(--sky-low)")];
    const own = bytes(getComputedStyle(element).backgroundColor);
    return own[3] === 255 ? [own] : backgrounds(element.parentElement).map((below) => over(own, below));
  };
  for (const element of all("main *, header *, dialog *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (element.matches(":disabled, :disabled *, .visually-hidden")) continue;
    const style = getComputedStyle(element);
    for (const below of backgrounds(element)) {
      const text = over(bytes(element.namespaceURI.endsWith("svg") ? style.fill : style.color), below);
      const [dark, light] = [luminance(text), luminance(below)].sort((a, b) => a - b);
      const ratio = (light + 0.05) / (dark + 0.05);
      if (ratio < 4.5) problems.push(`contrast ${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 100)}`);
    }
  }
  probe.remove();
  return problems;
}
