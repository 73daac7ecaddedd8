"""Whether the simulator says what was measured: within a fifth, or as near as rounds of reality come to each other."""

from msgspec import Struct

from benchmarks.results import Results
from benchmarks.suites.simulator import COMPARED, REAL, SIMULATED
from benchmarks.summary import Spread, by_round, of, ratio, spread

_ALLOWED = 0.2


class Agreement(Struct, frozen=True):
    """One figure of one workload."""

    real: Spread
    simulated: Spread
    ratio: Spread  # simulated to real, round by round
    off: Spread  # its distance from 1
    allowed: float  # a fifth or, where that is more, from the least to the greatest real round, to their median

    @property
    def holds(self) -> bool:
        return self.off.median <= self.allowed


def agreement(results: Results, workload: str, figure: str) -> Agreement:
    """Raises `NoFigure` where it was not measured."""
    real, simulated = of(results, workload, REAL, figure), of(results, workload, SIMULATED, figure)
    above, below = (by_round(results, workload, name, figure) for name in (SIMULATED, REAL))
    off = spread([abs(above[number] / below[number] - 1) for number in above if number in below])
    interval = (real.high - real.low) / real.median
    return Agreement(real, simulated, ratio(above, below), off, max(_ALLOWED, interval))


def worst(results: Results, workload: str) -> Spread:
    """Of the figures that are compared, the one that is off most, as a share of what is allowed."""
    each = [agreement(results, workload, figure) for figure in COMPARED]
    shares = [spread([value / one.allowed for value in (one.off.low, one.off.median, one.off.high)]) for one in each]
    most = max(shares, key=lambda share: share.median)
    return Spread(most.median, most.low, most.high, each[0].off.rounds)
