"""Bucketed durations: nothing is lost, sums and differences hold, quantiles are close."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.observability.latency import BOUNDS_S, LatencyCounts

durations = st.lists(st.floats(0, 200, allow_nan=False), max_size=60)


def counted(seconds: list[float]) -> LatencyCounts:
    counts = LatencyCounts()
    for one in seconds:
        counts.add(one)
    return counts


@given(durations)
def test_every_duration_is_in_the_bucket_that_bounds_it(seconds: list[float]) -> None:
    for bound, upto in counted(seconds).cumulative():
        assert upto == sum(one <= bound for one in seconds)


@given(durations, durations)
def test_what_was_merged_can_be_taken_apart(first: list[float], second: list[float]) -> None:
    both = counted(first)
    earlier = both.copy()
    both.merge(counted(second))
    assert both.counts == counted(first + second).counts
    assert both.since(earlier).counts == counted(second).counts
    assert both.since(earlier).sum_s == pytest.approx(sum(second), abs=1e-6)
    assert earlier.counts == counted(first).counts


@given(st.lists(st.floats(0.001, 90), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_within_the_bucket_of_the_true_one(seconds: list[float], q: float) -> None:
    true = sorted(seconds)[math.ceil(q * len(seconds)) - 1]
    found = counted(seconds).quantile_s(q)
    upper = next(bound for bound in BOUNDS_S if true <= bound)
    lower = max((bound for bound in BOUNDS_S if bound < true), default=0.0)
    assert found is not None
    assert lower <= found * (1 + 1e-9)
    assert found <= upper * (1 + 1e-9)


def test_a_quantile_of_nothing_is_none_and_one_beyond_the_bounds_is_the_last() -> None:
    assert LatencyCounts().quantile_s(0.5) is None
    assert counted([5000.0]).quantile_s(0.5) == BOUNDS_S[-1]
