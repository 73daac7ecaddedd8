"""Plots of a preparation, as SVG in the page. Without matplotlib there are none."""

from io import StringIO
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pileus.data.report import Report

_INCHES: Final = (8.0, 3.0)
_COLOUR: Final = "#3b6ea5"


def plots(report: "Report") -> list[str]:
    """What becomes of the documents, and how long those are that stay."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_fates(left, report)
    _draw_sizes(right, report)
    written = StringIO()
    figure.savefig(written, format="svg")
    drawn = written.getvalue()
    return [drawn[drawn.index("<svg") :]]


def _draw_fates(axes: "Axes", report: "Report") -> None:
    counts = {"in the dataset": report.documents, **report.left_out}
    names = [name.replace("_", " ") for name in counts]
    axes.barh(names, list(counts.values()), color=_COLOUR)
    axes.invert_yaxis()
    axes.set_xlabel("documents")


def _draw_sizes(axes: "Axes", report: "Report") -> None:
    sizes = report.account.sizes
    present = [place for place, count in enumerate(sizes) if count] or [0]
    shown = range(present[0], present[-1] + 1)
    axes.bar([f"{2**place:,}" for place in shown], [sizes[place] for place in shown], color=_COLOUR)
    axes.tick_params(axis="x", rotation=60)
    axes.set_xlabel("characters, from")
    axes.set_ylabel("documents")
