// What the overview shows of the series, and how each figure is put into words.

/** Options of each `LineChart`, with its `name` and `headline(points)`: the figure, its unit, and what goes with it. */
export function panels({ t, format }) {
  const number = (value) => format.number(value);
  const words = (key, show) => (points) => summary(points, key, show, t);
  const ms = (value) => format.milliseconds(value).join(" ");
  return [
    {
      name: "tokens",
      label: t("figure.tokens"),
      lines: [{ key: "tokens_per_s", label: t("figure.tokens.line"), className: "sky" }],
      format: number,
      atLeast: 20,
      headline: (points) => [
        number(points.at(-1)?.tokens_per_s),
        t("unit.tokens_per_s"),
        t("figure.tokens.more", {
          requests: number(points.at(-1)?.requests_per_s),
          errors: number(points.at(-1)?.errors_per_s),
        }),
      ],
      words: words("tokens_per_s", number),
    },
    {
      name: "ttft",
      label: t("figure.ttft"),
      lines: [
        { key: "ttft_p50_ms", label: "p50", className: "dawn" },
        { key: "ttft_p95_ms", label: "p95", className: "dawn second" },
      ],
      format: ms,
      tickText: (value) => (value < 1000 ? number(value) : ms(value)),
      atLeast: 100,
      headline: (points) => [
        ...format.milliseconds(latest(points, "ttft_p50_ms")),
        t("figure.ttft.more", { p95: ms(latest(points, "ttft_p95_ms")) }),
      ],
      words: words("ttft_p50_ms", ms),
    },
    {
      name: "queue",
      label: t("figure.queue"),
      lines: [
        { key: "waiting", label: t("figure.queue.waiting"), className: "dusk" },
        { key: "running", label: t("figure.queue.running"), className: "dusk second" },
      ],
      format: number,
      atLeast: 4,
      headline: (points) => [
        number(points.at(-1)?.waiting),
        t("unit.waiting"),
        t("figure.queue.more", { running: number(points.at(-1)?.running), wait: ms(latest(points, "queue_p50_ms")) }),
      ],
      words: words("waiting", number),
    },
    {
      name: "kv",
      label: t("figure.kv"),
      lines: [
        { key: "kv_used_ratio", label: t("figure.kv.used"), className: "sea" },
        { key: "prefix_hit_ratio", label: t("figure.kv.prefix"), className: "sea second" },
      ],
      format: (value) => format.percent(value),
      top: 1,
      headline: (points) => [
        format.percent(points.at(-1)?.kv_used_ratio),
        t("unit.kv"),
        t("figure.kv.more", { hits: format.percent(latest(points, "prefix_hit_ratio")) }),
      ],
      words: words("kv_used_ratio", (value) => format.percent(value)),
    },
  ];
}

/** The last value that was measured: TTFT has none in a second without a first token. */
function latest(points, key) {
  return points.findLast((point) => point[key] != null)?.[key] ?? null;
}

function summary(points, key, show, t) {
  const values = points.map((point) => point[key]).filter((value) => value != null);
  if (!values.length) return t("chart.empty");
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return t("chart.summary", {
    now: show(values.at(-1)),
    least: show(Math.min(...values)),
    most: show(Math.max(...values)),
    mean: show(mean),
  });
}
