"""Measurements to medians: what the tables, the plots and the goals are made from."""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from benchmarks.results import Results


class Spread(Struct, frozen=True):
    """A median over rounds, with the least and the greatest of them."""

    median: float
    low: float
    high: float
    rounds: int


class NoFigure(Exception):
    """Nothing was measured that would tell."""


def spread(values: Sequence[float]) -> Spread:
    if not values:
        raise NoFigure
    return Spread(median(values), min(values), max(values), len(values))


def by_round(results: Results, workload: str, target: str, figure: str) -> dict[int, float]:
    """One figure of all rounds in which it was measured."""
    return {
        one.round: one.figures[figure]
        for one in results.measurements
        if (one.workload, one.target) == (workload, target) and figure in one.figures
    }


def of(results: Results, workload: str, target: str, figure: str) -> Spread:
    return spread(list(by_round(results, workload, target, figure).values()))


def ratio(above: dict[int, float], below: dict[int, float]) -> Spread:
    """Pairwise: round by round first, and then the median, so that a slow minute of the machine cancels out."""
    return spread([above[number] / below[number] for number in above if number in below])


def targets_of(results: Results, suite: str) -> list[str]:
    """Those with a figure in the suite, in the order in which they took part."""
    seen = {one.target for one in results.measurements if one.suite == suite}
    return [target.name for target in results.targets if target.name in seen]


def workloads_of(results: Results, suite: str) -> list[str]:
    return list(dict.fromkeys(one.workload for one in results.measurements if one.suite == suite))
