"""When the next slot comes free, and how much gets done."""

import pytest

from pileus.scheduling.endings import Endings


def learn(endings: Endings, tokens: int, took_s: float, times: int = 100) -> None:
    for number in range(times):
        endings.begin(number, 500, 100, 0.0)
        endings.end(number, tokens, took_s)


def test_slots_that_filled_together_come_free_together() -> None:
    endings = Endings()
    learn(endings, tokens=100, took_s=2.0)
    for number in range(8):
        endings.begin(number, 500, 100, now=10 + number / 100)
    assert endings.wait_s(0, now=10.1) == pytest.approx(1.9)
    assert endings.wait_s(7, now=10.1) == pytest.approx(1.97)
    endings.end(0, 100, now=12.0)
    assert endings.wait_s(0, now=12.0) == pytest.approx(0.01)


def test_what_runs_for_longer_than_foretold_may_end_at_any_moment() -> None:
    endings = Endings()
    learn(endings, tokens=100, took_s=2.0)
    endings.begin(1, 500, 100, now=0.0)
    assert endings.wait_s(0, now=5.0) == 0


def test_where_answers_end_early_less_is_foretold() -> None:
    steady, erratic = Endings(), Endings()
    for endings in (steady, erratic):
        learn(endings, tokens=100, took_s=2.0)
    learn(erratic, tokens=50, took_s=1.0)
    for endings in (steady, erratic):
        endings.begin(1, 500, 100, now=0.0)
    assert steady.wait_s(0, now=0.0) == pytest.approx(2.0)
    assert erratic.wait_s(0, now=0.0) == pytest.approx(1.0, rel=0.05)


def test_what_ran_elsewhere_before_has_less_to_go() -> None:
    endings = Endings()
    learn(endings, tokens=100, took_s=2.0)
    endings.begin(1, 500, 100, now=0.0)
    ran_s = endings.leave(1, now=1.5)
    endings.begin(1, 500, 100, now=10.0, ran_s=ran_s)
    assert endings.wait_s(0, now=10.0) == pytest.approx(0.5)
    endings.end(1, 100, now=10.5)
    endings.begin(2, 500, 100, now=20.0)
    assert endings.wait_s(0, now=20.0) == pytest.approx(2.0)


def test_nothing_is_foretold_of_what_is_not_known() -> None:
    endings = Endings()
    assert endings.wait_s(0, now=0.0) == 0
    endings.begin(1, 500, 100, now=0.0)
    assert endings.wait_s(0, now=0.0) == 0
    endings.end(1, 0, now=1.0)  # it said nothing
    learn(endings, tokens=100, took_s=2.0)
    endings.begin(1, 500, 100, now=0.0)
    assert endings.wait_s(1, now=0.0) == 0  # only one runs


def test_what_gets_done_is_told_from_what_runs_and_not_from_when_it_ends() -> None:
    """Eight at a time, 500 of work in two seconds each: whether they end together or not."""
    endings = Endings()
    learn(endings, tokens=100, took_s=2.0)
    assert endings.work_per_s == 0  # nothing runs
    for number in range(8):
        endings.begin(number, 500, 100, now=0.0)
    assert endings.work_per_s == pytest.approx(8 * 500 / 2)
    endings.leave(3, now=1.0)
    assert endings.work_per_s == pytest.approx(7 * 500 / 2)
