"""Plots as plain SVG: one panel per figure, one bar per target, the whisker from the least to the greatest round."""

from collections.abc import Sequence
from html import escape

from msgspec import Struct

from benchmarks.report import number
from benchmarks.results import Results
from benchmarks.summary import NoFigure, Spread, of, targets_of

_WIDTH, _LABEL, _VALUE, _ROW, _HEAD, _GAP = 760, 260, 110, 26, 34, 14
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b2733 }
.head { font-weight: 600 } .value { font-variant-numeric: tabular-nums }
.bar { fill: #9fb3c8 } .ours { fill: #2f6fed } .whisker { stroke: #1b2733; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .bar { fill: #52667a } .ours { fill: #6ea0ff } .whisker { stroke: #e6edf3 }
}
"""


class Panel(Struct, frozen=True):
    """One figure of one workload."""

    suite: str
    workload: str
    figure: str
    unit: str


ENGINE_PANELS = (
    Panel("engines", "single", "tokens_per_s", "tokens/s, more is better"),
    Panel("engines", "concurrent-32", "tokens_per_s", "tokens/s, more is better"),
    Panel("engines", "concurrent-64", "tokens_per_s", "tokens/s, more is better"),
    Panel("engines", "prefix-cached", "total_s", "seconds until all are served, less is better"),
    Panel("engines", "prefix-uncached", "total_s", "seconds until all are served, less is better"),
)
GATEWAY_PANELS = (
    Panel("gateway", "whole-32", "requests_per_s", "requests/s, more is better"),
    Panel("gateway", "stream-32", "tokens_per_s", "tokens/s, more is better"),
    Panel("gateway", "stream-256", "tokens_per_s", "tokens/s, more is better"),
    Panel("gateway", "steady-256", "tokens_per_s", "tokens/s, more is better"),
    Panel("gateway", "sequential", "added_p50_ms", "ms added to a request, less is better"),
)


def svg(results: Results, panels: Sequence[Panel]) -> str:
    """The panels that have figures, one below the other."""
    parts: list[str] = []
    y = 0
    for panel in panels:
        bars = _bars(results, panel)
        if bars:
            parts.append(_panel(results, panel, bars, y))
            y += _HEAD + _ROW * len(bars) + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {max(y, 1)}" role="img">'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _bars(results: Results, panel: Panel) -> list[tuple[str, Spread]]:
    found = []
    for name in targets_of(results, panel.suite):
        try:
            found.append((name, of(results, panel.workload, name, panel.figure)))
        except NoFigure:
            continue
    return found


def _panel(results: Results, panel: Panel, bars: list[tuple[str, Spread]], y: int) -> str:
    room = _WIDTH - _LABEL - _VALUE
    scale = room / max(spread.high for _, spread in bars)
    titles = {target.name: target.title for target in results.targets}
    title = f"{results.titles[panel.workload]}: {panel.unit}"
    lines = [f'<text class="head" x="0" y="{y + 20}">{escape(title)}</text>']
    for row, (name, spread) in enumerate(bars):
        top = y + _HEAD + row * _ROW
        middle = top + _ROW / 2 - 2
        kind = "bar ours" if name.startswith("pileus") else "bar"
        low, high = (_LABEL + value * scale for value in (spread.low, spread.high))
        lines += [
            f'<text x="0" y="{middle + 5}">{escape(titles[name])}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{spread.median * scale:.1f}" height="{_ROW - 6}"/>',
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}"/>',
            f'<text class="value" x="{high + 8:.1f}" y="{middle + 5}">{number(spread.median)}</text>',
        ]
    return "\n".join(lines)
