"""Who gives up a slot, and that this comes to an end."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.fairness import Share

SLOTS = 12


@dataclass(eq=False)
class Item:
    tenant: str
    lane: Lane = Lane.ON_DEMAND
    priority: int = 0
    due: float | None = None
    prompt_tokens: int = 10
    choices: int = 1
    max_answer_tokens: int = 10


def settle(tenants: list[str], **shares: Share) -> Counter[str]:
    """Every slot is given to the first who come; then all others come, and slots change hands until they do not."""
    queue: AdmissionQueue[Item] = AdmissionQueue(Bounds(1000, 10**9, 60, 60), shares)
    running: list[Item] = []
    for tenant in tenants:
        queue.offer(Item(tenant), 0.0)
        for _ in range(1000):
            head = queue.head(0.0)
            if head is None:
                break
            if len(running) == SLOTS:
                exchange = queue.exchange()
                if exchange is None:
                    break
                head, victim = exchange
                queue.give_way(victim, 0.0)
                running.remove(victim)
            queue.take(head, 0.0)
            running.append(head)
        else:
            raise AssertionError("slots change hands for ever")
    return Counter(item.tenant for item in running)


def test_slots_are_shared_evenly_when_another_comes() -> None:
    assert settle(["a"] * 20 + ["b"] * 20) == {"a": 6, "b": 6}


def test_heavier_tenants_keep_more() -> None:
    assert settle(["a"] * 20 + ["b"] * 20, a=Share(weight=2)) == {"a": 8, "b": 4}


def test_a_tenant_that_asks_for_little_gets_it_and_the_rest_stays() -> None:
    assert settle(["a"] * 20 + ["b"] * 2) == {"a": 10, "b": 2}


@given(st.lists(st.sampled_from("abcd"), max_size=80))
def test_slots_come_to_rest_and_none_is_lost(tenants: list[str]) -> None:
    assert sum(settle(tenants).values()) == min(SLOTS, len(tenants))


def test_a_slot_that_was_promised_is_neither_given_up_nor_counted() -> None:
    queue: AdmissionQueue[Item] = AdmissionQueue(Bounds(1000, 10**9, 60, 60), {"paid": Share(tokens_per_s=100)})
    for _ in range(2):
        promised = Item("paid", Lane.CONTINUOUS)
        queue.offer(promised, 0.0)
        queue.take(promised, 0.0)
    queue.offer(Item("a"), 0.0)
    assert queue.exchange() is None
