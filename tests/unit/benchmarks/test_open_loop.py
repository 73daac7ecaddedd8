"""Arrivals keep their own time."""

import asyncio
from collections import Counter
from statistics import variance
from time import perf_counter

import pytest

from benchmarks.answers import Timeline
from benchmarks.open_loop import Arrival, bursts, poisson, send_openly
from benchmarks.upstream import Upstream
from unit.benchmarks.test_client import upstream


def test_poisson_arrivals_come_at_their_rate_and_are_the_same_for_a_seed() -> None:
    arrivals = list(poisson("a", b"", 50.0, 100.0, "seed"))
    assert len(arrivals) == 5000
    assert all(0 < one.at_s < 100 for one in arrivals)
    assert arrivals == list(poisson("a", b"", 50.0, 100.0, "seed"))


def test_poisson_arrivals_are_independent_of_one_another() -> None:
    """Half a second has 25 of them on the mean, and as much variance."""
    arrivals = list(poisson("a", b"", 50.0, 1000.0, "seed"))
    counts = Counter(int(one.at_s * 2) for one in arrivals)
    assert variance(counts[slot] for slot in range(2000)) == pytest.approx(25, rel=0.1)


def test_bursts_come_again_until_the_end() -> None:
    assert [one.at_s for one in bursts("a", b"", 2, 2.0, 1.0, 5.0)] == [1.0, 1.0, 3.0, 3.0]


async def test_each_is_sent_when_it_is_due_whether_or_not_others_were_answered() -> None:
    async with upstream(Upstream) as endpoint, asyncio.timeout(20):
        request = endpoint.request({"max_tokens": 3, "stream": True})
        begun_s = perf_counter()
        sent = await send_openly(endpoint, [Arrival(0.2, "b", request), Arrival(0.0, "a", request)], 3)
    assert [one.who for one in sent.answers] == ["a", "b"]
    first, second = (one.answer for one in sent.answers)
    assert isinstance(first, Timeline)
    assert isinstance(second, Timeline)
    assert begun_s <= sent.answers[0].due_s <= first.sent_s
    assert sent.answers[1].due_s - sent.answers[0].due_s == pytest.approx(0.2)
    assert second.sent_s >= sent.answers[1].due_s
