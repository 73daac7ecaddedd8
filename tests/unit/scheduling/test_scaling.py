"""How many replicas: up at once, down slowly, none when nobody asks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.scaling import Cause, Demand, Policy, Scaler, asked_for, why

POLICY = Policy(min_replicas=1, max_replicas=8, idle_s=60.0, target_queue_s=2.0, target_ttft_s=1.0, calm_s=120.0)
SLEEPY = Policy(min_replicas=0, max_replicas=8, idle_s=60.0, calm_s=120.0)


def demand(ready: int = 1, *, active_s: float = 0.0, **figures: Any) -> Demand:
    return Demand(ready=ready, slots=10 * ready, active_s=active_s, **figures)


@pytest.mark.parametrize(
    ("found", "replicas"),
    [
        (demand(1, used_slots=5), 1),
        (demand(1, used_slots=9), 2),  # more than four fifths of the slots
        (demand(2, used_slots=9), 2),
        (demand(1, used_slots=10, waiting=3), 2),  # nothing is known of the wait
        (demand(1, used_slots=10, waiting=30, foreseen_s=1.0), 2),
        (demand(2, used_slots=10, waiting=30, foreseen_s=6.0), 6),  # three times too long
        (demand(1, used_slots=10, waiting=300, foreseen_s=100.0), 4),  # not all at once
        (demand(3, used_slots=10, waiting=300, foreseen_s=100.0), 8),  # nor more than there may be
        (demand(2, used_slots=4, ttft_s=1.5), 3),
        (demand(2, used_slots=4, ttft_s=0.5), 1),
        (demand(0, waiting=50), 1),  # it starts; nothing is known yet
    ],
)
def test_what_a_moment_asks_for(found: Demand, replicas: int) -> None:
    assert asked_for(POLICY, found, 1, now=1.0) == replicas


def test_more_comes_at_once_and_goes_after_the_calm() -> None:
    scaler = Scaler()
    quiet, busy = demand(1, used_slots=1), demand(1, used_slots=10, waiting=9, foreseen_s=6.0)
    assert scaler.decide(POLICY, quiet, 1, 0.0) == 1
    assert scaler.decide(POLICY, busy, 1, 1.0) == 3
    for second in range(2, 121):
        assert scaler.decide(POLICY, demand(3, used_slots=1), 3, float(second)) == 3
    assert scaler.decide(POLICY, demand(3, used_slots=1), 3, 121.0) == 1


def test_a_second_burst_within_the_calm_finds_its_replicas() -> None:
    scaler = Scaler()
    busy = demand(2, used_slots=20, waiting=9, foreseen_s=4.0)
    assert scaler.decide(POLICY, busy, 2, 0.0) == 4
    assert scaler.decide(POLICY, demand(4, used_slots=1), 4, 60.0) == 4
    assert scaler.decide(POLICY, demand(4, used_slots=40), 4, 110.0) == 5
    assert scaler.decide(POLICY, demand(5, used_slots=1), 5, 229.0) == 5


def test_what_was_begun_with_stays_for_a_while_too() -> None:
    scaler = Scaler()
    assert scaler.decide(POLICY, demand(4, used_slots=1), 4, 0.0) == 4
    assert scaler.decide(POLICY, demand(4, used_slots=1), 4, 119.0) == 4
    assert scaler.decide(POLICY, demand(4, used_slots=1), 4, 120.0) == 1


def test_it_sleeps_once_nobody_has_asked_for_a_while_and_wakes_for_the_first() -> None:
    scaler = Scaler()
    assert scaler.decide(SLEEPY, demand(1, active_s=0.0), 1, 59.0) == 1
    assert scaler.decide(SLEEPY, demand(1, active_s=0.0), 1, 60.0) == 0
    assert scaler.decide(SLEEPY, demand(0, active_s=0.0), 0, 61.0) == 0
    assert scaler.decide(SLEEPY, demand(0, active_s=62.0, waiting=1), 0, 62.0) == 1


def test_who_is_served_is_not_idle_however_long_ago_it_was_asked() -> None:
    assert Scaler().decide(SLEEPY, demand(1, active_s=0.0, used_slots=1), 1, 1e6) == 1


def test_it_does_not_wake_because_of_what_was_just_asked_and_left() -> None:
    assert Scaler().decide(SLEEPY, demand(0, active_s=99.0), 0, 100.0) == 0


DEMANDS = st.builds(
    lambda ready, used, waiting, foreseen, ttft, active: Demand(
        ready=ready,
        slots=10 * ready,
        used_slots=min(used, 10 * ready),
        waiting=waiting,
        foreseen_s=foreseen,
        ttft_s=ttft,
        active_s=active,
    ),
    ready=st.integers(0, 12),
    used=st.integers(0, 120),
    waiting=st.integers(0, 2000),
    foreseen=st.floats(0, 1e4),
    ttft=st.none() | st.floats(0, 1e4),
    active=st.floats(0, 1e4),
)


@given(found=st.lists(DEMANDS, min_size=1, max_size=40), least=st.integers(0, 3), more=st.integers(0, 6))
def test_it_stays_within_its_bounds_and_goes_up_at_once_but_never_down_early(
    found: list[Demand], least: int, more: int
) -> None:
    policy = Policy(min_replicas=least, max_replicas=max(1, least + more), idle_s=5.0, calm_s=10.0, target_ttft_s=1.0)
    scaler, replicas, asked = Scaler(), policy.bound(1), []
    for now, each in enumerate(found):
        asked.append(asked_for(policy, each, replicas, now))
        decided = scaler.decide(policy, each, replicas, now)
        assert policy.min_replicas <= decided <= policy.max_replicas
        assert decided >= asked[-1]
        if decided < replicas and decided:
            assert all(before < replicas for before in asked[-10:])
        if decided == 0:
            assert not each.busy
        replicas = decided


@given(found=DEMANDS.filter(lambda each: each.waiting > 0), longer=st.floats(0, 1e3))
def test_a_longer_wait_never_asks_for_fewer(found: Demand, longer: float) -> None:
    worse = Demand(
        ready=found.ready,
        slots=found.slots,
        used_slots=found.used_slots,
        waiting=found.waiting,
        foreseen_s=max(found.foreseen_s, 0.1) + longer,
        ttft_s=found.ttft_s,
        active_s=found.active_s,
    )
    if found.foreseen_s:
        assert asked_for(POLICY, worse, 1, 1.0) >= asked_for(POLICY, found, 1, 1.0)


@pytest.mark.parametrize(
    ("found", "before", "after", "cause"),
    [
        (demand(2, used_slots=10, waiting=30, foreseen_s=6.0), 2, 6, Cause.QUEUE),
        (demand(1, used_slots=10, waiting=3), 1, 2, Cause.QUEUE),
        (demand(1, used_slots=9), 1, 2, Cause.SLOTS),
        (demand(2, used_slots=4, ttft_s=1.5), 2, 3, Cause.TTFT),
        (demand(0, waiting=1), 0, 1, Cause.WAKE),
        (demand(3, used_slots=1), 3, 1, Cause.CALM),
        (demand(1), 1, 0, Cause.IDLE),
    ],
)
def test_a_decision_says_what_it_followed_from(found: Demand, before: int, after: int, cause: Cause) -> None:
    assert why(POLICY, found, before, after) == cause
