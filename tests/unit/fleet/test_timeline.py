"""The time line: what is an event, how many are kept, and what it tells whoever asks again."""

import pytest

from pileus.fleet import lifecycle
from pileus.fleet.lifecycle import Life
from pileus.fleet.timeline import KEPT, LONGEST_REASON, EventKind, FleetEvent, Timeline, turn

STARTED = lifecycle.started(Life(), 10.0)
READY = lifecycle.proven(STARTED, 12.5)
CRASHED = lifecycle.died(READY, 20.0, "it was killed by SIGKILL")
HUNG = lifecycle.died(READY, 20.0, "its step has taken 9.0 s; it was killed", given_up=True)
LOOPING = lifecycle.died(STARTED, 11.0, "weights.bin: wrong sha256", refused=True)
AGAIN = lifecycle.started(CRASHED, 20.2)
DRAINING = lifecycle.draining(READY, 30.0)


def event(t: float, deployment: str = "chat", reason: str = "") -> FleetEvent:
    return FleetEvent(t=t, deployment=deployment, kind=EventKind.DEPLOYED, reason=reason)


def times(events: list[FleetEvent]) -> list[float]:
    return [each.t for each in events]


def test_only_the_last_events_are_kept() -> None:
    line = Timeline()
    for second in range(KEPT + 2):
        line.add(event(float(second)))
    assert times(line.events(-1.0)) == [float(second) for second in range(2, KEPT + 2)]


def test_who_asks_for_what_came_after_the_last_one_misses_none_though_the_clock_stands_or_jumps_back() -> None:
    line, heard = Timeline(), []
    for wall in (100.0, 100.0, 40.0, 1.7e9, 1.7e9, 1.7e9):
        line.add(event(wall))
        heard += times(line.events(heard[-1] if heard else 0.0))
    assert heard == times(line.events())
    assert heard == sorted(set(heard))
    assert len(heard) == 6


def test_one_deployment_is_told_apart_from_another() -> None:
    line = Timeline()
    for second, name in enumerate(("chat", "draft", "chat")):
        line.add(event(second + 1.0, name))
    assert times(line.events(deployment="chat")) == [1.0, 3.0]
    assert times(line.events(since=1.0, deployment="chat")) == [3.0]
    assert line.events(deployment="none") == []


def test_last_words_are_cut_before_they_fill_the_memory() -> None:
    line = Timeline()
    line.add(event(1.0, reason="x" * 9999))
    [kept] = line.events()
    assert (len(kept.reason), kept.reason[-2:]) == (LONGEST_REASON, "x…")


@pytest.mark.parametrize(
    ("before", "after", "kind", "figures"),
    [
        (STARTED, READY, EventKind.REPLICA_READY, {"took_s": 2.5}),
        (READY, CRASHED, EventKind.REPLICA_CRASHED, {"reason": "it was killed by SIGKILL", "retry_s": 0.2}),
        (READY, HUNG, EventKind.REPLICA_HUNG, {"reason": HUNG.last_error, "retry_s": 0.2}),
        (STARTED, LOOPING, EventKind.REPLICA_CRASHED, {"reason": "weights.bin: wrong sha256", "retry_s": 30.0}),
        (CRASHED, AGAIN, EventKind.REPLICA_RESTARTED, {"retry_s": 0.2}),
        (DRAINING, lifecycle.stopped(DRAINING, 33.0), EventKind.REPLICA_DRAINED, {"took_s": 3.0}),
    ],
)
def test_the_steps_of_a_life_that_are_events(
    before: Life, after: Life, kind: EventKind, figures: dict[str, object]
) -> None:
    told = turn("chat", "chat/0", before, after, 1000.0)
    assert told is not None
    assert (told.t, told.deployment, told.replica, told.kind) == (1000.0, "chat", "chat/0", kind)
    names = ("reason", "took_s", "retry_s")
    assert {name: getattr(told, name) for name in names if getattr(told, name)} == figures


@pytest.mark.parametrize(
    ("before", "after"),
    [(Life(), STARTED), (READY, DRAINING), (STARTED, lifecycle.stopped(STARTED, 11.0))],
)
def test_the_steps_that_are_none(before: Life, after: Life) -> None:
    assert turn("chat", "chat/0", before, after, 1000.0) is None


def test_a_death_after_a_hang_is_a_crash_again() -> None:
    again = lifecycle.proven(lifecycle.started(HUNG, 21.0), 22.0)
    told = turn("chat", "chat/0", again, lifecycle.died(again, 23.0, "it ended"), 1000.0)
    assert told is not None
    assert told.kind == EventKind.REPLICA_CRASHED
