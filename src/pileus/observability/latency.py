"""Durations, counted in fixed buckets: one type for every latency, so that counts can be added and subtracted."""

from bisect import bisect_left
from collections.abc import Iterator

from msgspec import Struct, field

# Upper bounds in seconds, six to a decade from 0.1 ms to 100 s: a quantile read from them is good to about a tenth.
BOUNDS_S = (*(float(f"{step}e{decade}") for decade in range(-4, 2) for step in (1, 1.5, 2, 3, 5, 7)), 100.0)


class LatencyCounts(Struct):
    """How many durations fell into each bucket, and their sum.

    Cheap enough to count every token's gap in: `add` is a bisection in a tuple.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def merge(self, other: "LatencyCounts") -> None:
        """Add another's counts to these."""
        counts = self.counts
        for index, count in enumerate(other.counts):
            if count:
                counts[index] += count
        self.sum_s += other.sum_s

    def copy(self) -> "LatencyCounts":
        return LatencyCounts(self.counts.copy(), self.sum_s)

    def since(self, earlier: "LatencyCounts") -> "LatencyCounts":
        """What came after an earlier copy."""
        counts = [now - then for now, then in zip(self.counts, earlier.counts, strict=True)]
        return LatencyCounts(counts, self.sum_s - earlier.sum_s)

    @property
    def total(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """(upper bound, how many at most that long), the last one infinite."""
        running = 0
        for bound, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            running += count
            yield bound, running

    def quantile_s(self, q: float) -> float | None:
        """The q-quantile, linear within its bucket; `None` of nothing. Beyond the last bound, that bound."""
        wanted = q * self.total
        if not wanted:
            return None
        below, lower = 0, 0.0
        for bound, upto in self.cumulative():
            if upto >= wanted and bound <= BOUNDS_S[-1]:
                return lower + (bound - lower) * (wanted - below) / (upto - below)
            below, lower = upto, bound
        return BOUNDS_S[-1]
