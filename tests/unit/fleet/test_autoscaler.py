"""The loop that carries decisions out: on whom, with what, and what it does without memory."""

from typing import Any, cast

from structlog.testing import capture_logs

from changing_fleet import deployment
from pileus.fleet.autoscaler import Autoscaler
from pileus.fleet.controller import Fleet
from pileus.fleet.memory import Footprint
from pileus.scheduling.scaling import Cause, Demand, Policy
from pileus.testing.clock import ManualClock

POLICY = Policy(min_replicas=1, max_replicas=4, calm_s=60.0)
BUSY = Demand(active_s=0.0, ready=1, slots=10, used_slots=10, waiting=9, foreseen_s=4.0)
QUIET = Demand(active_s=0.0, ready=2, slots=20, used_slots=1)


class Replicas:
    """What the autoscaler uses of a fleet."""

    def __init__(self) -> None:
        self.deployment = deployment(policy=POLICY).evolve(footprint=Footprint(50, 50))
        self.count = 1
        self.causes: list[Cause] = []

    def scalable(self) -> list[tuple[Any, int]]:
        return [(self.deployment, self.count)]

    def adjust(self, name: str, replicas: int, cause: Cause) -> None:
        assert name == "fake"
        self.count = replicas
        self.causes.append(cause)


class House:
    def __init__(self, available: int = 1000) -> None:
        self.fleet, self.clock = Replicas(), ManualClock()
        self.demand, self.available = QUIET, available
        self.autoscaler = Autoscaler(cast(Fleet, self.fleet), lambda _: self.demand, lambda: self.available, self.clock)

    def tick(self, demand: Demand, seconds: float = 1.0) -> int:
        self.demand = demand
        self.clock.advance(seconds)
        self.autoscaler.tick()
        return self.fleet.count


def test_replicas_come_with_demand_and_go_when_it_has_been_calm() -> None:
    house = House()
    assert house.tick(BUSY) == 2
    assert house.tick(QUIET, 59.0) == 2
    assert house.tick(QUIET, 2.0) == 1
    assert house.fleet.causes == [Cause.QUEUE, Cause.CALM]


def test_what_does_not_fit_is_not_begun_and_told_once() -> None:
    house = House(available=99)
    with capture_logs() as logs:
        assert [house.tick(BUSY) for _ in range(3)] == [1, 1, 1]
    assert [(each["event"], each["reason"].partition(":")[0]) for each in logs] == [
        ("deployment_cannot_grow", "fake does not fit")
    ]
    house.available = 100
    assert house.tick(BUSY) == 2


def test_a_new_policy_is_not_bound_by_what_the_old_one_remembers() -> None:
    house = House()
    assert house.tick(BUSY) == 2
    house.fleet.deployment = deployment(policy=Policy(min_replicas=1, max_replicas=1, calm_s=60.0))
    assert house.tick(QUIET) == 1
