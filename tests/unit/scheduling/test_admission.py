"""What may wait, and for how long."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.admission import AdmissionQueue


@dataclass(eq=False)
class Item:
    tokens: int = 10


def queue(requests: int = 3, tokens: int = 1000, wait_s: float = 5.0) -> AdmissionQueue[Item]:
    return AdmissionQueue(requests, tokens, wait_s)


def test_first_come_first_served() -> None:
    waiting = queue()
    items = [Item() for _ in range(3)]
    for item in items:
        assert waiting.offer(item, 0.0) is None
    assert [waiting.take() for _ in range(3)] == items


def test_a_full_queue_refuses_with_a_time_to_retry_after() -> None:
    waiting = queue(requests=1)
    assert waiting.offer(Item(), 0.0) is None
    refusal = waiting.offer(Item(), 0.0)
    assert refusal is not None
    assert refusal.retry_after_s >= 1


def test_tokens_are_bounded_but_one_large_request_may_always_wait_alone() -> None:
    waiting = queue(tokens=100)
    assert waiting.offer(Item(500), 0.0) is None
    assert waiting.offer(Item(1), 0.0) is not None
    waiting.take()
    assert waiting.offer(Item(60), 0.0) is None
    assert waiting.offer(Item(60), 0.0) is not None


def test_the_time_to_retry_after_follows_the_measured_rate() -> None:
    waiting = queue(requests=1)
    waiting.offer(Item(3000), 0.0)
    for second in range(200):
        waiting.served(100, float(second))
    refusal = waiting.offer(Item(), 200.0)
    assert refusal is not None
    assert 25 < refusal.retry_after_s < 35


def test_what_waits_too_long_leaves() -> None:
    waiting = queue(wait_s=5.0)
    first, second = Item(), Item()
    waiting.offer(first, 0.0)
    waiting.offer(second, 3.0)
    assert waiting.next_expiry() == 5.0
    assert waiting.expire(5.0) == [first]
    assert waiting.next_expiry() == 8.0


def test_what_lost_its_replica_goes_first() -> None:
    waiting = queue()
    first, again = Item(), Item()
    waiting.offer(first, 0.0)
    waiting.put_back(again, 0.0)
    assert waiting.head() is again


@given(st.lists(st.tuples(st.sampled_from(["offer", "take", "withdraw", "expire"]), st.integers(1, 50))))
def test_the_count_of_waiting_tokens_is_that_of_the_waiting_items(steps: list[tuple[str, int]]) -> None:
    waiting, known, now = queue(requests=5, tokens=120), list[Item](), 0.0
    for action, amount in steps:
        if action == "offer":
            item = Item(amount)
            if waiting.offer(item, now) is None:
                known.append(item)
        elif action == "take" and known:
            assert waiting.take() is known.pop(0)
        elif action == "withdraw" and known:
            item = known.pop(amount % len(known))
            assert waiting.withdraw(item)
            assert not waiting.withdraw(item)
        elif action == "expire":
            now += amount / 10
            for item in waiting.expire(now):
                known.remove(item)
        assert len(waiting) == len(known)
        assert waiting.tokens == sum(item.tokens for item in known)
