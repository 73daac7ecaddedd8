"""What is asked of a deployment that sleeps: it is held, in bounds, until there is a replica."""

from typing import Any, cast

import pytest

from pileus.core.errors import Overloaded
from pileus.core.records import Capabilities, Continuation, Credit, Lane
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.dispatch import Dispatched, Dispatcher
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.routing import Router
from pileus.testing.clock import ManualClock


class Item:
    """Meets `Dispatched`, as far as it is used before a replica speaks."""

    tenant, lane, priority, prompt_tokens, choices, max_answer_tokens = "t", Lane.ON_DEMAND, 0, 3, 1, 100
    unfinished, prefix, known_tokens = 1, (), 3

    def __init__(self, due: float | None = None) -> None:
        self.due = due
        self.sent = False
        self.refused: list[Overloaded] = []

    def on_placed(self, link: ReplicaLink, lane: Lane) -> None:
        cast(Any, link).free -= 1
        self.sent = True

    def on_expired(self) -> None:
        raise AssertionError("it must not expire")

    def on_displaced(self, refusal: Overloaded) -> None:
        self.refused.append(refusal)


class Link:
    """What the dispatcher uses of a `ReplicaLink`."""

    def __init__(self, slots: int = 100) -> None:
        self.capabilities = Capabilities(
            model="m",
            max_context=100,
            slots=slots,
            kv_blocks=1000,
            block_size=32,
            continuation=Continuation.CONTINUABLE,
            vocab_size=2000,
        )
        self.replica, self.epoch, self.step_s = "d/0", 1, 0.0
        self.token_s: list[float] = []
        self.free = slots

    def available(self) -> Credit:
        return Credit(self.free, 1000)


class House:
    """A dispatcher of a deployment that sleeps."""

    def __init__(self, most_held: int = 10) -> None:
        self.clock = ManualClock()
        self.starting_s: float | None = 5.0
        bounds = Bounds(max_requests=100, max_tokens=10**6, max_wait_s=1.0, max_foreseen_s=1.0)
        self.queue: AdmissionQueue[Dispatched] = AdmissionQueue(bounds)
        self.dispatcher = Dispatcher(
            "d", self.queue, Router(), self.clock, starting_s=lambda: self.starting_s, most_held=most_held
        )

    def ask(self, due: float | None = None) -> Item:
        item = Item(due)
        self.dispatcher.enqueue(cast(Any, item))
        return item

    def wake(self, link: Link) -> None:
        self.starting_s = None
        self.dispatcher.on_news({cast(ReplicaLink, link): True})

    def remember(self, work_per_s: float) -> None:
        """As if this had been measured before it slept."""
        for _ in range(10):
            self.clock.advance(1.0)
            self.queue.rate.observe(work_per_s, self.clock.monotonic())


async def test_what_is_held_waits_longer_than_the_queue_would_let_it() -> None:
    house = House()
    items = [house.ask() for _ in range(5)]
    assert house.dispatcher.waiting == 5
    house.clock.advance(100.0)
    house.wake(Link())
    assert [item.sent for item in items] == [True] * 5


async def test_what_the_queue_does_not_take_at_once_is_held_on_and_not_refused() -> None:
    house = House()
    items = [house.ask() for _ in range(10)]
    house.remember(work_per_s=500.0)  # so the queue takes one or two, by its own bounds
    link = Link(slots=1)
    house.wake(link)
    for _ in range(10):
        link.free = 1
        house.dispatcher.on_news({cast(ReplicaLink, link): True})
    assert [(item.sent, item.refused) for item in items] == [(True, [])] * 10


async def test_who_could_not_be_in_time_is_told_so_and_holds_up_nobody() -> None:
    house = House()
    late, patient = house.ask(due=1.0), house.ask()
    house.clock.advance(2.0)
    house.wake(Link())
    assert len(late.refused) == 1
    assert patient.sent


async def test_no_more_are_held_than_may_wait() -> None:
    house = House(most_held=2)
    house.ask()
    house.ask()
    with pytest.raises(Overloaded) as refused:
        house.ask()
    assert refused.value.retry_after_s == 5.0


async def test_who_leaves_is_not_held_any_more() -> None:
    house = House(most_held=1)
    item = house.ask()
    house.dispatcher.withdraw(cast(Any, item))
    assert house.dispatcher.waiting == 0
    house.ask()


async def test_when_it_does_not_start_all_are_told() -> None:
    house = House()
    items = [house.ask() for _ in range(3)]
    house.starting_s = None
    house.dispatcher.on_news({})
    assert [len(item.refused) for item in items] == [1, 1, 1]


async def test_when_the_deployment_is_gone_all_who_wait_are_told_and_nobody_else_may() -> None:
    house = House()
    held = house.ask()
    house.starting_s = None
    queued = house.ask()
    house.dispatcher.close()
    assert (len(held.refused), len(queued.refused)) == (1, 1)
    with pytest.raises(Overloaded, match="not served any more"):
        house.ask()
