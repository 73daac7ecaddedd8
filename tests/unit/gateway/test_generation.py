"""One request's life between the queue and its settlement, against a replica that does what the test says."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from pileus.core.errors import DeadlineExceeded, EngineFailed, Overloaded, Quarantined
from pileus.core.records import (
    Continuation,
    FinishReason,
    Lane,
    Started,
)
from pileus.gateway.records import Usage
from unit.gateway.house import PROMPT, House, Replica, finish, read, say, text_of


async def test_what_comes_while_the_reader_is_busy_is_one_delta() -> None:
    house = House(Replica())
    generation = house.generation()
    generation.on_started(Started(1, 2, 0.1, 0.2))
    say(generation, "hel")
    assert [delta.text for delta in await generation.next()] == ["hel"]
    say(generation, "lo")
    finish(generation)
    assert [(d.text, d.tokens, d.finish_reason) for d in await read(generation)] == [("lo", 2, FinishReason.STOP)]
    assert house.endings == ["stop"]
    assert generation.usage == Usage(3, 2, 5)
    assert generation.timings.prefill_s == pytest.approx(0.3)


async def test_a_reader_of_the_whole_is_woken_once() -> None:
    house = House(Replica())
    generation = house.generation()
    reading = asyncio.create_task(cast(Any, generation.next(whole=True)))
    await asyncio.sleep(0)
    say(generation, "hello")
    await asyncio.sleep(0)
    assert not reading.done()
    finish(generation, FinishReason.LENGTH)
    assert [delta.text for delta in await reading] == ["hello"]
    assert await generation.next(whole=True) == []


async def test_a_stop_string_over_two_tokens_ends_the_answer_and_the_engines_work() -> None:
    replica = Replica()
    house = House(replica)
    generation = house.generation(stop=("END",))
    say(generation, "one ENDless")
    deltas = await read(generation)
    assert text_of(deltas) == "one "
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert replica.cancelled == [1]
    assert generation.usage.completion_tokens == len("one END")
    assert house.endings == ["stop"]


async def test_a_stop_string_ends_the_engines_work_on_its_choice_only() -> None:
    replica = Replica()
    generation = House(replica).generation(n=2, stop=("END",))
    say(generation, "one ENDless", 1)
    [delta] = await generation.next()
    assert (delta.choice, delta.text, delta.finish_reason) == (1, "one ", FinishReason.STOP)
    assert (replica.cancelled_choices, replica.cancelled) == ([(1, 1)], [])
    finish(generation, FinishReason.CANCELLED, choice=1)
    say(generation, "two", 0)
    finish(generation)
    assert text_of(await read(generation)) == "two"


async def test_tokens_that_follow_at_once_are_shown_together_a_little_later() -> None:
    generation = House(Replica()).generation()
    say(generation, "a")
    assert text_of(await generation.next()) == "a"
    reading = asyncio.create_task(cast(Any, generation.next()))
    await asyncio.sleep(0)
    say(generation, "b")
    await asyncio.sleep(0)
    assert not reading.done()
    say(generation, "c")
    assert text_of(await reading) == "bc"


async def test_leaving_frees_the_slot_and_settles_what_was_delivered_once() -> None:
    replica = Replica()
    house = House(replica)
    generation = house.generation()
    say(generation, "abc")
    await generation.next()
    generation.cancel()
    generation.cancel()
    assert replica.cancelled == [1]
    assert house.endings == ["cancelled"]
    assert generation.usage.completion_tokens == 3


async def test_leaving_the_queue_gives_the_place_to_the_next() -> None:
    replica = Replica(slots=1)
    house = House(replica)
    house.generation()
    queued, patient = house.generation(), house.generation()
    assert house.dispatcher.waiting == 2
    queued.cancel()
    assert house.dispatcher.waiting == 1
    replica.free_slots = 1
    house.serve_with(replica)
    assert len(replica.requests) == 2
    patient.cancel()
    assert house.endings == ["cancelled", "cancelled"]


async def test_a_lost_replica_is_replaced_with_an_exact_seam() -> None:
    first, second = Replica(), Replica()
    house = House(first)
    generation = house.generation(n=2)
    say(generation, "ab", 0)
    say(generation, "xyz", 1)
    finish(generation, choice=1)
    house.serve_with(second)
    generation.on_lost("killed")
    [resumed] = second.requests
    assert resumed.prompt == PROMPT
    assert [(choice.index, choice.emitted) for choice in resumed.choices] == [(0, tuple(b"ab"))]
    say(generation, "cd", 0)
    finish(generation)
    deltas = await read(generation)
    assert (text_of(deltas, 0), text_of(deltas, 1)) == ("abcd", "xyz")
    assert house.endings == ["stop"]


async def fails(wait: Callable[[], Awaitable[object]], error: type[Exception]) -> None:
    with pytest.raises(error):
        await wait()


async def test_a_request_that_saw_two_deaths_is_not_tried_a_third_time() -> None:
    house = House(Replica())
    generation = house.generation()
    generation.on_lost("killed")
    generation.on_lost("killed again")
    await fails(generation.next, Quarantined)
    assert house.endings == ["engine_failed"]


async def test_an_engine_that_cannot_continue_is_not_asked_to() -> None:
    house = House(Replica(continuation=Continuation.RESTARTABLE))
    quiet, heard = house.generation(), house.generation()
    say(heard, "a")
    await heard.next()
    quiet.on_lost("killed")
    heard.on_lost("killed")
    await fails(heard.next, EngineFailed)
    assert house.endings == ["engine_failed"]
    assert len(house.replicas[0].requests) == 3


async def test_an_engines_error_is_the_requests_error() -> None:
    house = House(Replica())
    generation = house.generation()
    finish(generation, FinishReason.ERROR, error="no room")
    with pytest.raises(EngineFailed, match="no room"):
        await generation.next()
    assert house.endings == ["engine_failed"]


async def test_what_is_handed_on_before_an_error_is_on_the_bill_and_after_leaving_there_is_nothing() -> None:
    house = House(Replica())
    fails_later, leaves = house.generation(), house.generation()
    for generation in (fails_later, leaves):
        say(generation, "ab")
        await generation.next()
        say(generation, "cd")
    finish(fails_later, FinishReason.ERROR, error="no room")
    assert fails_later.usage.completion_tokens == 4
    assert text_of(await fails_later.next()) == "cd"
    await fails(fails_later.next, EngineFailed)
    leaves.cancel()
    assert await leaves.next() == []
    assert leaves.usage.completion_tokens == 2


async def test_an_answer_that_its_stop_string_ended_does_not_fail_afterwards() -> None:
    house = House(Replica())
    generation = house.generation(stop=("!",))
    say(generation, "ab!")
    finish(generation, FinishReason.ERROR, error="no room")
    assert text_of(await read(generation)) == "ab"
    assert house.endings == ["stop"]


async def test_the_deadline_ends_a_request_that_runs() -> None:
    house = House(Replica())
    generation = house.generation(timeout_s=0.0)
    await fails(generation.next, DeadlineExceeded)
    assert house.replicas[0].cancelled == [1]
    assert house.endings == ["deadline_exceeded"]


async def test_what_waited_too_long_is_refused_with_a_time_to_retry_after() -> None:
    house = House(max_wait_s=0.0)
    generation = house.generation()
    with pytest.raises(Overloaded) as refused:
        await generation.next()
    assert refused.value.retry_after_s > 0
    assert refused.value.settled
    assert house.endings == ["overloaded"]


async def test_time_between_tokens_is_measured_in_each_choice_by_itself() -> None:
    house = House(Replica())
    generation = house.generation(n=2)
    for _ in range(3):
        say(generation, "a", 0)
        say(generation, "b", 1)
        house.clock.advance(0.5)
    assert generation.stopwatch.intervals.total == 4
    assert generation.stopwatch.intervals.sum_s == pytest.approx(2.0)
    generation.cancel()


async def test_time_on_a_lost_replica_is_the_engines_and_not_the_gateways() -> None:
    house = House(Replica())
    generation = house.generation()
    generation.on_started(Started(1, 0, 0.0, 0.0))
    house.clock.advance(2.0)
    generation.on_lost("killed")
    generation.on_started(Started(2, 0, 0.0, 0.0))
    house.clock.advance(0.5)
    finish(generation)
    assert generation.timings.decode_s == pytest.approx(2.5)
    assert generation.timings.gateway_s == pytest.approx(0.0)


async def test_what_stands_behind_one_that_gives_up_waiting_is_sent_at_once() -> None:
    replica = Replica(slots=2)
    house = House(replica)
    house.generation()
    large, small = house.generation(n=2), house.generation()
    large.cancel()
    assert house.dispatcher.waiting == 0
    assert len(replica.requests) == 2
    small.cancel()


async def test_a_refusal_tells_the_deadline_that_the_request_had() -> None:
    house = House(max_requests=1)
    house.generation()
    with pytest.raises(Overloaded) as refused:
        house.generation(deadline_s=2.5)
    assert refused.value.message.endswith("The deadline of this request is 2.5 s.")
    with pytest.raises(Overloaded) as plain:
        house.generation()
    assert "deadline" not in plain.value.message
    assert plain.value.retry_after_s == refused.value.retry_after_s


async def test_who_makes_room_for_others_is_told_its_deadline_too() -> None:
    house = House(max_requests=1)
    batch = house.generation(lane=Lane.BATCH, deadline_s=30.0)
    house.generation()
    with pytest.raises(Overloaded, match="The deadline of this request is 30 s"):
        await batch.next()


async def test_a_deadline_that_passes_in_the_queue_is_told_as_what_it_is() -> None:
    house = House()
    generation = house.generation(deadline_s=0.01)
    house.clock.advance(0.01)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s passed while the request was waiting"):
        await generation.next()
    assert house.endings == ["deadline_exceeded"]


async def test_a_deadline_of_less_than_a_second_is_told_as_it_is() -> None:
    house = House(Replica())
    generation = house.generation(timeout_s=0.001)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.001 s"):
        await generation.next()


async def test_a_refusal_with_its_deadline_is_as_settled_as_without() -> None:
    generation = House(Replica()).generation(deadline_s=5.0)
    refusal = Overloaded("full", retry_after_s=2.0)
    refusal.settled = True
    told = generation.explained(refusal)
    assert (told.settled, told.retry_after_s) == (True, 2.0)
    assert "5 s" in told.message
