"""What is foretold from measurements."""

import pytest

from pileus.scheduling.capacity import AnswerLength, ServiceRate


def test_an_answer_is_foretold_from_those_before_and_never_longer_than_allowed() -> None:
    lengths = AnswerLength(initial=128)
    for _ in range(300):
        lengths.observe(20)
    assert lengths.predict(1000) == pytest.approx(20, abs=1)
    assert lengths.predict(5) == 5


def test_nothing_is_foretold_before_something_was_measured() -> None:
    assert ServiceRate().wait_s(10_000) == 0


def test_the_rate_is_a_mean_over_some_seconds() -> None:
    rate = ServiceRate()
    for tenth in range(300):
        rate.observe(80 if tenth % 2 else 120, tenth / 10)
    assert rate.per_s == pytest.approx(100, rel=0.02)
    assert rate.wait_s(1000) == pytest.approx(10, rel=0.02)


def test_a_change_of_pace_is_seen_within_seconds() -> None:
    rate = ServiceRate()
    for second in range(60):
        rate.observe(100, float(second))
    for second in range(60, 90):
        rate.observe(10, float(second))
    assert rate.per_s == pytest.approx(10, rel=0.6)


def test_what_was_long_ago_counts_for_nothing() -> None:
    rate = ServiceRate()
    rate.observe(100, 0.0)
    rate.observe(10, 3600.0)
    assert rate.per_s == pytest.approx(10)
