"""Plots of the report, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

Curve = Sequence[tuple[int, float]]  # steps and values

_INCHES: Final = (7.0, 3.2)
_DOTS: Final = 120


def draw_curves(path: Path, curves: Mapping[str, Curve], figure: str) -> None:
    """A line for each, over the steps; single points for few."""
    from matplotlib.figure import Figure

    drawing = Figure(_INCHES, layout="constrained")
    axes = drawing.subplots()
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), label=name, marker="o" if len(curve) < 20 else "")
    axes.set(xlabel="step", ylabel=figure)
    axes.legend()
    drawing.savefig(path, dpi=_DOTS)


def draw_bars(path: Path, shares: Mapping[str, float], figure: str) -> None:
    """A bar for each share of 1, with its height."""
    from matplotlib.figure import Figure

    drawing = Figure(_INCHES, layout="constrained")
    axes = drawing.subplots()
    bars = axes.bar(list(shares), list(shares.values()))
    axes.bar_label(bars, [f"{100 * share:.0f}%" for share in shares.values()])
    axes.set(ylabel=figure, ylim=(0, 1.1))
    drawing.savefig(path, dpi=_DOTS)
