"""What is told of replicas that fail: how many of their requests went on elsewhere, and who sits out."""

import asyncio

from pileus.core.records import FinishReason
from pileus.gateway.failovers import Failovers
from unit.gateway.house import House, Replica, finish


class Told:
    """Hears what a dispatcher tells."""

    def __init__(self) -> None:
        self.resumed: list[tuple[str, str, int]] = []
        self.ejected: list[tuple[str, str]] = []

    def failovers(self) -> Failovers:
        return Failovers(lambda *what: self.resumed.append(what), lambda *what: self.ejected.append(what))


async def test_requests_that_go_on_elsewhere_are_counted_once_per_replica() -> None:
    told = Told()
    first, second, third = Replica(slots=3), Replica(slots=3), Replica(slots=9)
    house = House(first, second, failovers=told.failovers())
    generations = [house.generation() for _ in range(6)]
    on_first = [each for each in generations if each.replica is first]
    house.serve_with(third)
    for generation in generations:
        generation.on_lost("killed")
    assert told.resumed == []
    await asyncio.sleep(0)
    counts = {first.replica: len(on_first), second.replica: 6 - len(on_first)}
    assert {(name, count) for _, name, count in told.resumed} == set(counts.items())
    assert {deployment for deployment, _, _ in told.resumed} == {"d"}
    generations[0].cancel()


async def test_what_cannot_go_on_is_not_counted() -> None:
    told, replica = Told(), Replica()
    house = House(replica, failovers=told.failovers())
    generation = house.generation()
    generation.on_lost("killed")
    generation.on_lost("killed again")
    await asyncio.sleep(0)
    assert house.endings == ["engine_failed"]
    assert [count for _, _, count in told.resumed] == [1]


async def test_a_replica_that_fails_and_fails_is_told_when_it_sits_out() -> None:
    told, bad, good = Told(), Replica(slots=9), Replica(slots=9)
    house = House(bad, good, failovers=told.failovers())
    while not told.ejected:
        generation = house.generation()
        well = generation.replica is good
        finish(generation, FinishReason.STOP if well else FinishReason.ERROR)
        assert len(house.endings) < 200
    assert told.ejected == [("d", bad.replica)]
