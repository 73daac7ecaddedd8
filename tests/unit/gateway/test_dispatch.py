"""From the queue to replicas: lanes, refusals, replicas that come, go and fail."""

from typing import cast

import pytest

from pileus.core.errors import EngineFailed, Overloaded
from pileus.core.records import FinishReason, Lane, Started
from pileus.engines.replica.client import ReplicaLink
from pileus.scheduling.outliers import FAILURES
from unit.gateway.house import House, Replica, finish, read, say


async def test_urgent_work_is_sent_before_batch_work_that_came_first() -> None:
    replica = Replica(slots=1)
    house = House(replica)
    house.generation()
    batch, urgent = house.generation(lane=Lane.BATCH), house.generation()
    replica.free_slots = 1
    house.serve_with(replica)
    assert [request.lane for request in replica.requests] == [Lane.ON_DEMAND] * 2
    assert house.dispatcher.waiting == 1
    for generation in (batch, urgent):
        generation.cancel()


async def test_who_has_to_leave_a_full_queue_is_told_when_to_come_back() -> None:
    house = House(max_requests=2)
    batch = house.generation(lane=Lane.BATCH)
    house.generation()
    house.generation()
    with pytest.raises(Overloaded, match="Try again in") as refused:
        await batch.next()
    assert refused.value.retry_after_s >= 1
    assert house.endings == ["overloaded"]


async def test_requests_that_wait_go_to_a_replica_that_comes() -> None:
    house = House()
    generation = house.generation()
    late = Replica()
    house.serve_with(late)
    assert len(late.requests) == 1
    say(generation, "a")
    finish(generation)
    await read(generation)
    assert house.endings == ["stop"]


async def test_a_replica_that_is_gone_gets_nothing_more() -> None:
    first, second = Replica(), Replica()
    house = House(first, second)
    house.serve_with(second)
    for _ in range(3):
        house.generation()
    assert (len(first.requests), len(second.requests)) == (0, 3)


async def test_a_replica_that_is_connected_to_anew_goes_on_serving() -> None:
    old, new = Replica(), Replica()
    new.replica = old.replica
    house = House(old)
    for news in ({old: False, new: True}, {new: True, old: False}):
        house.serve_with(old)
        house.dispatcher.on_news(cast(dict[ReplicaLink, bool], news))
        before = len(new.requests)
        house.generation()
        assert len(new.requests) == before + 1


async def test_a_replica_that_has_computed_its_prompts_is_chosen_before_one_that_has_not() -> None:
    house = House(*(Replica(slots=64) for _ in range(2)))
    first, second = house.generation(), house.generation()
    second.on_started(Started(1, 0, 0.0, 0.1))
    assert first.replica is not second.replica
    assert house.generation().replica is second.replica


async def test_a_prompt_that_left_counts_no_more() -> None:
    house = House(*(Replica(slots=64) for _ in range(2)))
    first, second = house.generation(), house.generation()
    second.cancel()
    assert first.replica is not second.replica
    assert house.generation().replica is second.replica


async def test_a_prompt_that_went_on_elsewhere_counts_there_and_no_more_where_it_was() -> None:
    house = House(*(Replica(slots=64) for _ in range(2)))
    first, second = house.generation(), house.generation()
    left, full = second.replica, first.replica
    second.on_lost("a test wants it so")
    assert second.replica is left
    second.on_started(Started(1, 0, 0.0, 0.1))
    assert house.generation().replica is left is not full


async def test_a_replica_that_fails_one_request_after_the_other_is_left_out() -> None:
    bad, good = Replica(slots=64), Replica(slots=4)
    house = House(bad, good)
    failed = 0
    for _ in range(FAILURES + 3):
        generation = house.generation()
        if generation.replica is not bad:
            finish(generation)
            continue
        failed += 1
        finish(generation, FinishReason.ERROR, error="broken inside")
        with pytest.raises(EngineFailed):
            await generation.next()
    assert failed == FAILURES


async def test_a_tenant_with_most_slots_gives_one_up_to_a_tenant_without() -> None:
    replica = Replica(slots=4)
    house = House(replica)
    noisy = [house.generation(tenant="noisy") for _ in range(6)]
    say(noisy[3], "ab")
    quiet = house.generation(tenant="quiet")
    assert replica.cancelled == [4]  # the latest that ran
    assert len(replica.requests) == 5
    assert quiet.replica is replica
    assert house.dispatcher.waiting == 3
    finish(quiet)
    replica.free_slots = 1
    house.serve_with(replica)
    assert replica.requests[-1].choices[0].emitted == tuple(b"ab")  # it goes on before its tenant's others
    say(noisy[3], "c")
    finish(noisy[3])
    assert "".join(delta.text for delta in await read(noisy[3])) == "abc"


async def test_who_gave_way_counts_no_more_where_it_was() -> None:
    replica = Replica(slots=2)
    house = House(replica)
    noisy = [house.generation(tenant="noisy") for _ in range(2)]
    quiet = house.generation(tenant="quiet")
    assert replica.cancelled == [2]
    for generation in (noisy[0], quiet):
        generation.on_started(Started(1, 0, 0.0, 0.1))
        finish(generation)
    replica.free_slots = 2
    house.serve_with(replica)
    noisy[1].on_started(Started(1, 0, 0.0, 0.1))
    finish(noisy[1])
    replica.free_slots = 2
    house.serve_with(replica, Replica(slots=2))
    house.clock.advance(60.0)
    assert house.generation().replica is replica


async def test_nobody_gives_way_to_a_tenant_that_has_as_much() -> None:
    replica = Replica(slots=4)
    house = House(replica)
    for tenant in ("a", "a", "b", "b"):
        house.generation(tenant=tenant)
    house.generation(tenant="a")
    house.generation(tenant="b")
    assert (replica.cancelled, house.dispatcher.waiting) == ([], 2)


async def test_who_would_wait_long_for_a_slot_to_come_free_is_refused_at_once() -> None:
    replica = Replica(slots=1)
    house = House(replica)
    first = house.generation()
    say(first, "x" * 50)
    house.clock.advance(100.0)
    finish(first)
    replica.free_slots = 1
    house.serve_with(replica)
    assert house.generation().replica is replica
    house.clock.advance(10.0)
    with pytest.raises(Overloaded, match="it would wait about 90"):
        house.generation()
    house.clock.advance(50.0)
    house.generation()
    assert house.dispatcher.waiting == 1


async def test_batch_work_makes_nobody_give_way() -> None:
    replica = Replica(slots=2)
    house = House(replica)
    for _ in range(2):
        house.generation(tenant="a")
    house.generation(tenant="b", lane=Lane.BATCH)
    assert replica.cancelled == []


async def test_batch_work_whose_deadline_is_near_is_sent_as_urgent_work() -> None:
    """Or, first in the queue, it would wait for the slots of batch work and hold up all who may have them."""
    replica = Replica(slots=1)
    house = House(replica, max_wait_s=600.0)
    house.generation(lane=Lane.BATCH)
    late = house.generation(lane=Lane.BATCH, deadline_s=100.0)
    house.clock.advance(50.0)
    replica.free_slots = 1
    house.serve_with(replica)
    assert late.replica is replica
    assert [request.lane for request in replica.requests] == [Lane.BATCH, Lane.ON_DEMAND]


async def test_work_on_a_replica_that_is_leaving_gives_way_to_nobody() -> None:
    """Its slot is no slot any more."""
    leaving, staying = Replica(slots=2), Replica(slots=1)
    house = House(leaving)
    for _ in range(2):
        house.generation(tenant="noisy")
    staying.free_slots = 0
    house.serve_with(staying)
    quiet = house.generation(tenant="quiet")
    assert (leaving.cancelled, quiet.replica) == ([], None)
    staying.free_slots = 1
    house.serve_with(staying)
    assert quiet.replica is staying
