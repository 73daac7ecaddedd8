"""A run as a picture: plain SVG, in the manner of `benchmarks/plot.py`, one line for each policy.

Above, the share of all requests that had said their first token after so long; below, tokens of good answers by time.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from msgspec import Struct

from pileus.simulation.outcomes import Floats, Outcomes
from pileus.simulation.report import Targets, met
from pileus.simulation.request import Ending

_WIDTH, _LEFT, _RIGHT, _PANEL, _HEAD, _FOOT, _GAP = 760, 56, 150, 220, 34, 26, 22
_POINTS = 200
_BINS = 60
_COLOURS = ("#2f6fed", "#d9730d", "#0f9d58", "#9b51e0")
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b2733 }
.head { font-weight: 600 } .line { fill: none; stroke-width: 2 } .axis { stroke: #9fb3c8; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { stroke: #52667a } }
"""


class _Line(Struct, frozen=True):
    name: str
    x: Floats  # both from 0 to 1
    y: Floats


class _Panel(Struct, frozen=True):
    title: str
    lines: Sequence[_Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def svg(runs: Mapping[str, Outcomes], targets: Targets) -> str:
    """The runs by their policies' names; each had at least one request."""
    panels = (_first_tokens(runs), _goodput(runs, targets))
    height = len(panels) * (_HEAD + _PANEL + _FOOT + _GAP)
    parts = [part for place, panel in enumerate(panels) for part in _drawn(panel, place)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _first_tokens(runs: Mapping[str, Outcomes]) -> _Panel:
    waits = {name: np.sort(outcomes.ttft_s[outcomes.ended(Ending.FINISHED)]) for name, outcomes in runs.items()}
    known = [values for values in waits.values() if len(values)]
    low = 10 ** np.floor(np.log10(max(1e-3, min((float(values[0]) for values in known), default=1e-3))))
    high = 10 ** np.ceil(np.log10(max(10 * low, max((float(values[-1]) for values in known), default=1.0))))
    scale = np.linspace(0, 1, _POINTS)
    seconds = low * (high / low) ** scale
    lines = [
        _Line(name, scale, np.searchsorted(values, seconds, side="right") / len(runs[name]))
        for name, values in waits.items()
    ]
    decades = round(np.log10(high / low))
    ticks = [(place / decades, _seconds(low * 10**place)) for place in range(decades + 1)]
    halves = [(share, f"{share:.0%}") for share in (0.0, 0.5, 1.0)]
    return _Panel("Share of all requests whose first token came within", lines, ticks, halves)


def _goodput(runs: Mapping[str, Outcomes], targets: Targets) -> _Panel:
    ends = max(float(outcomes.end.max()) for outcomes in runs.values())
    edges = np.linspace(0, max(ends, 1e-9), _BINS + 1)
    rates = {}
    for name, outcomes in runs.items():
        good = met(outcomes, targets)
        tokens, _ = np.histogram(outcomes.end[good], edges, weights=outcomes.answer_tokens[good])
        rates[name] = tokens / (edges[1] - edges[0])
    most = max(1.0, max(float(rate.max()) for rate in rates.values()))
    middles = (edges[:-1] + edges[1:]) / 2 / edges[-1]
    return _Panel(
        "Tokens per second of answers that met the service level",
        [_Line(name, middles, rate / most) for name, rate in rates.items()],
        [(share, _seconds(share * ends)) for share in (0.0, 0.5, 1.0)],
        [(share, f"{share * most:,.0f}") for share in (0.0, 0.5, 1.0)],
    )


def _drawn(panel: _Panel, place: int) -> list[str]:
    top = place * (_HEAD + _PANEL + _FOOT + _GAP)
    base, room = top + _HEAD + _PANEL, _WIDTH - _LEFT - _RIGHT
    parts = [f'<text class="head" x="0" y="{top + 20}">{escape(panel.title)}</text>']
    parts.append(f'<path class="axis" fill="none" d="M{_LEFT} {top + _HEAD}V{base}H{_LEFT + room}"/>')
    for at, label in panel.x_ticks:
        parts.append(f'<text x="{_LEFT + at * room:.1f}" y="{base + 18}" text-anchor="middle">{label}</text>')
    for at, label in panel.y_ticks:
        parts.append(f'<text x="{_LEFT - 6}" y="{base - at * _PANEL + 5:.1f}" text-anchor="end">{label}</text>')
    for number, line in enumerate(panel.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{_LEFT + x * room:.1f},{base - y * _PANEL:.1f}" for x, y in zip(line.x, line.y, strict=True)
        )
        parts.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
        key = top + _HEAD + 16 + 20 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 12}" y="{key - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{key}">{escape(line.name)}</text>')
    return parts


def _seconds(seconds: float) -> str:
    if 0 < seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"
