"""How sure a figure is, and a difference: bootstrap, paired bootstrap, permutation and McNemar's test.

A metric is given as a table of sufficient statistics, one row for each item, and a function from their sums to the
score. So one resampling serves means (sum, count) and corpus scores such as BLEU alike. References: Efron and
Tibshirani, An Introduction to the Bootstrap (1993); Koehn, Statistical Significance Tests for Machine Translation
Evaluation (2004); McNemar (1947), in its exact form.
"""

from collections.abc import Callable, Iterator
from math import comb
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Table = NDArray[np.float64]  # (items, statistics)
Score = Callable[[Table], NDArray[np.float64]]  # of sums (draws, statistics): (draws,)

DRAWS: Final = 2000
_CHUNK: Final = 250  # draws at a time, which bounds memory


class Interval(Struct, frozen=True):
    """A figure, and between what it lies with 95% confidence."""

    value: float
    low: float
    high: float


def mean_score(sums: Table) -> NDArray[np.float64]:
    """Of tables of (value, 1)."""
    means: NDArray[np.float64] = sums[:, 0] / sums[:, 1]
    return means


def bootstrap(table: Table, score: Score, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The score over all items, with its percentile interval. Raises `ValueError` where there are no items."""
    drawn = [score(weights @ table) for weights in _weights(len(table), draws, seed)]
    return _interval(_whole(table, score), np.concatenate(drawn))


def paired_bootstrap(a: Table, b: Table, score: Score, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The score of `a` less that of `b`, on the same items, which are drawn alike for both."""
    _demand_pairs(a, b)
    value = _whole(a, score) - _whole(b, score)
    found = [score(weights @ a) - score(weights @ b) for weights in _weights(len(a), draws, seed)]
    return _interval(value, np.concatenate(found))


def permutation_test(a: Table, b: Table, score: Score, *, draws: int = DRAWS, seed: int = 0) -> float:
    """How likely a difference at least as large is (two-sided) if it did not matter which of the two answered an item.
    The observed assignment counts as one of the draws, so that the value is never 0."""
    _demand_pairs(a, b)
    observed = abs(_whole(a, score) - _whole(b, score))
    random = np.random.default_rng(seed)
    total, change, beyond = a.sum(axis=0), b - a, 0
    for begin in range(0, draws, _CHUNK):
        swapped = random.integers(2, size=(min(_CHUNK, draws - begin), len(a))) @ change
        differences = score(total + swapped) - score(b.sum(axis=0) - swapped)
        beyond += int(np.count_nonzero(np.abs(differences) >= observed - 1e-12))
    likelihood: float = (beyond + 1) / (draws + 1)
    return likelihood


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """How likely so unequal a split of the items that only one of the two got right is (two-sided, exact)."""
    if a.shape != b.shape:
        raise ValueError("the answers are not to the same items")
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    n, k = only_a + only_b, min(only_a, only_b)
    tail = float(sum(comb(n, i) for i in range(k + 1)) / 2**n)
    return min(1.0, 2 * tail)


def is_non_inferior(difference: Interval, margin: float) -> bool:
    """Whether a score that is better when larger is, with confidence, less by at most the margin."""
    return difference.low >= -margin


def _weights(items: int, draws: int, seed: int) -> Iterator[Table]:
    """How often each item is drawn: (draws, items), in chunks."""
    if not items:
        raise ValueError("there are no items")
    random = np.random.default_rng(seed)
    for begin in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - begin)
        yield random.multinomial(items, np.full(items, 1 / items), size=size).astype(np.float64)


def _whole(table: Table, score: Score) -> float:
    value: float = score(table.sum(axis=0, keepdims=True)).item()
    return value


def _interval(value: float, drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _demand_pairs(a: Table, b: Table) -> None:
    if a.shape != b.shape:
        raise ValueError("the answers are not to the same items")
