// Pure arithmetic of a chart: which numbers stand on an axis, and where a value lies.

/** The smallest round number that holds `value`: 1, 2, 2.5 or 5 times a power of ten. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
  return step * power;
}

/** `{ top, ticks }` of a value axis that starts at 0 and is never flatter than `atLeast`. */
export function valueAxis(largest, atLeast, parts = 4) {
  const step = roundUp(Math.max(largest, atLeast) / parts);
  const count = Math.max(1, Math.ceil(Math.max(largest, atLeast) / step - 1e-9));
  return { top: step * count, ticks: Array.from({ length: count + 1 }, (_, index) => index * step) };
}

/** A function from [a, b] to [from, to]. */
export function linear([a, b], [from, to]) {
  const slope = b === a ? 0 : (to - from) / (b - a);
  return (value) => from + (value - a) * slope;
}

/** Stretches of neighbouring points with a value: a line must not invent what was not measured in a gap. */
export function stretches(points, value, longestGap = 3) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (value(point) == null) continue;
    if (last === null || point.t - last.t > longestGap) found.push([]);
    found.at(-1).push(point);
    last = point;
  }
  return found;
}

/** Index of the point nearest in time. */
export function nearest(points, t) {
  let best = 0;
  points.forEach((point, index) => {
    if (Math.abs(point.t - t) < Math.abs(points[best].t - t)) best = index;
  });
  return best;
}
