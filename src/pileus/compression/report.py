"""What came out, for programs (JSON), for people (Markdown) and at a glance (a plot)."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from pileus.models.perplexity import Interval

REPORT_JSON: Final = "report.json"
REPORT_MARKDOWN: Final = "report.md"
REPORT_PLOT: Final = "pareto.png"


class Rate(Struct, frozen=True):
    """Over rounds."""

    median: float
    least: float
    greatest: float


class Row(Struct, frozen=True, kw_only=True):
    """One model beside its parent. Ratios and differences are paired: the same tokens, the same items."""

    name: str
    how: str  # in words
    target: str
    size_bytes: int  # of the weights
    parameters: int
    zeros: float  # share of the weights that are nought
    perplexity: Interval
    perplexity_ratio: Interval  # to the parent's
    task: Interval | None = None  # share of right answers
    task_difference: Interval | None = None
    tokens_per_s: dict[int, Rate] = {}  # at so many requests at once
    memory_bytes: int = 0  # of a process that serves it
    made_in_s: float = 0.0
    notes: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """One parent and what was made of it. The parent is the first row."""

    model: str
    at: str  # date
    machine: str
    calibration: str
    text: str  # that the perplexity is of
    tokens: int
    windows: str
    rows: tuple[Row, ...]
    cache: dict[str, Interval] = {}  # of the parent, by the precision of the cache: perplexity


def save(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT_JSON).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    (folder / REPORT_MARKDOWN).write_text(page(report), encoding="utf-8")
    (folder / REPORT_PLOT).write_bytes(plot(report))


def page(report: Report) -> str:
    lines = [
        f"# Compressed from {report.model}",
        "",
        f"{report.at}, on {report.machine}. Calibrated on {report.calibration}.",
        f"Perplexity is of {report.tokens} tokens of {report.text} in {report.windows}, from the graph that is served, "
        "at the precision that it is served at; the task is to find of two sentences the one whose verb agrees with "
        "its subject. Memory is of a process that serves it, with the default room for keys and values. In brackets: "
        "95% intervals by bootstrap; against the parent they are paired.",
        "",
        *_table(report),
        "",
        f"![Size against perplexity]({REPORT_PLOT})",
    ]
    if report.cache:
        lines += ["", "The parent with a cache of another precision (`kv_precision`):", ""]
        lines += ["| cache | perplexity |", "| --- | --- |"]
        lines += [f"| {name} | {_shown(figure)} |" for name, figure in report.cache.items()]
    notes = [f"- {row.name}: {row.notes}" for row in report.rows if row.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def summary(row: Row) -> str:
    """One line for a log."""
    rates = ", ".join(f"{rate.median:,.0f} tokens/s at {n}" for n, rate in row.tokens_per_s.items())
    ratio = f"{100 * (row.perplexity_ratio.value - 1):+.1f}%"
    told = [f"{row.name}: {row.size_bytes / 1e6:,.1f} MB", f"perplexity {row.perplexity.value:.2f} ({ratio})"]
    task = [f"task {100 * row.task.value:.0f}%"] if row.task else []
    return ", ".join([*told, *task, *([rates] if rates else [])])


def plot(report: Report) -> bytes:
    """Size against perplexity, and speed against perplexity; what nothing beats in both is joined."""
    from io import BytesIO

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    size, speed = figure.subplots(1, 2)
    by_size = [(row.size_bytes / 1e6, row.perplexity, row.name) for row in report.rows]
    by_speed = [(row.tokens_per_s[32].median, row.perplexity, row.name) for row in report.rows if row.tokens_per_s]
    _draw(size, by_size, "size of the weights, MB", 1)
    _draw(speed, by_speed, "tokens per second, 32 at once", -1)
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points of which less is better in both, those that no other beats, from left to right."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _draw(axes: object, points: list[tuple[float, Interval, str]], title: str, sign: int) -> None:
    for x, y, name in points:
        axes.errorbar(x, y.value, yerr=[[y.value - y.low], [y.high - y.value]], fmt="o", capsize=3)  # type: ignore[attr-defined]
        axes.annotate(name, (x, y.value), xytext=(5, 5), textcoords="offset points", fontsize=8)  # type: ignore[attr-defined]
    joined = front([(sign * x, y.value) for x, y, _ in points])
    axes.plot([sign * x for x, _ in joined], [y for _, y in joined], color="0.6", zorder=0)  # type: ignore[attr-defined]
    axes.set(xlabel=title, ylabel="perplexity")  # type: ignore[attr-defined]


def _table(report: Report) -> list[str]:
    counts = sorted({count for row in report.rows for count in row.tokens_per_s})
    heads = ["model", "how", "MB", "parameters", "zeros", "perplexity", "to parent"]
    heads += ["task", "to parent"] if any(row.task for row in report.rows) else []
    heads += [f"tokens/s at {count}" for count in counts] + (["memory, MB"] if counts else [])
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in report.rows:
        cells = [row.name, row.how, f"{row.size_bytes / 1e6:,.1f}", f"{row.parameters / 1e6:,.1f}M"]
        cells += [f"{100 * row.zeros:.0f}%", _shown(row.perplexity), _shown(row.perplexity_ratio, "x", 3)]
        if row.task and row.task_difference:
            cells += [_percent(row.task), _percent(row.task_difference, "+")]
        cells += [_rate(row.tokens_per_s[count]) if count in row.tokens_per_s else "" for count in counts]
        cells += [f"{row.memory_bytes / 1e6:,.0f}"] if counts else []
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(figure: Interval, unit: str = "", digits: int = 2) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in (figure.value, figure.low, figure.high))
    return f"{value}{unit} [{low}, {high}]"


def _percent(figure: Interval, sign: str = "") -> str:
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (figure.value, figure.low, figure.high))
    return f"{value}% [{low}, {high}]"


def _rate(rate: Rate) -> str:
    return f"{rate.median:,.0f} [{rate.least:,.0f}, {rate.greatest:,.0f}]"
