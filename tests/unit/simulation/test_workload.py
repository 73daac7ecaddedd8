"""What is made of a trace."""

from collections import Counter
from typing import Any

import pytest

from pileus.core.records import Lane
from pileus.scheduling.prefixes import CHUNK_TOKENS, chain
from pileus.simulation.request import Request, links_of, names_of
from pileus.simulation.traces import TraceRequest
from pileus.simulation.workload import AddedTenant, Shape, Surge, Workload

TRACE = [
    TraceRequest(100.0, 2000, 50, (0, 1, 2, 3)),
    TraceRequest(101.0, 1000, 10, (0, 4)),
    TraceRequest(104.0, 1600, 20, (0, 1, 2, 9)),
]


def requests(seed: int = 0, **shape: Any) -> list[Request]:
    return list(Workload(TRACE, Shape(**shape), seed))


def times(**shape: Any) -> list[float]:
    return [request.at for request in requests(**shape)]


def test_a_trace_begins_at_nought() -> None:
    assert times() == [0.0, 1.0, 4.0]


def test_a_rate_of_two_halves_the_times() -> None:
    assert times(rate_scale=2.0) == [0.0, 0.5, 2.0]


def test_a_surge_quickens_what_comes_after_it() -> None:
    assert times(surges=(Surge(2.0, 1.0),)) == [0.0, 1.0, 2.5]


def test_a_repetition_begins_as_long_after_the_end_as_requests_are_apart() -> None:
    assert times(requests=5) == [0.0, 1.0, 4.0, 6.0, 7.0]
    assert times(requests=2) == [0.0, 1.0]


def test_a_repetition_shares_no_prefix_with_what_it_repeats() -> None:
    first, _, third, again, *_ = requests(requests=5)
    assert first.names[:3] == third.names[:3]
    assert not set(first.names) & set(again.names)


def test_lengths_and_shared_blocks_are_scaled_together() -> None:
    first, _, third = requests(length_scale=0.1)
    assert (first.prompt_tokens, first.answer_tokens, first.block_tokens) == (200, 5, 51)
    assert (len(first.names), len(third.names)) == (3, 3)


def test_tenants_are_spread_and_conversations_stay_with_one() -> None:
    spread = Counter(request.tenant for request in requests(requests=3000, tenants=4))
    assert set(spread) == {f"tenant-{number}" for number in range(4)}
    assert min(spread.values()) > 500
    first, _, third, *_ = requests(tenants=1000)
    assert first.tenant == third.tenant


def test_tenants_share_no_prefix() -> None:
    by_tenant = {request.tenant: request.names[0] for request in requests(requests=300, tenants=2) if request.at < 6}
    assert len(set(by_tenant.values())) == len(by_tenant)


def test_a_share_is_batch_work() -> None:
    lanes = Counter(request.lane for request in requests(requests=3000, batch_share=0.25))
    assert lanes[Lane.BATCH] == pytest.approx(750, rel=0.15)


def test_an_added_tenant_asks_at_its_rate_from_beginning_to_end() -> None:
    added = AddedTenant("bob", 2.0, Lane.BATCH)
    mixed = requests(requests=1500, added=(added,))
    own = [request for request in mixed if request.tenant == "bob"]
    assert len(own) == pytest.approx(2.0 * mixed[-1].at, rel=0.1)
    assert {request.lane for request in own} == {Lane.BATCH}
    assert [request.at for request in mixed] == sorted(request.at for request in mixed)


def test_what_callers_allow_is_known_and_bounds_the_answer() -> None:
    first, second, _ = requests(max_answer_tokens=30)
    assert (first.answer_tokens, first.max_answer_tokens) == (30, 30)
    assert (second.answer_tokens, second.max_answer_tokens) == (10, 30)


def test_equal_seeds_give_equal_requests_and_others_do_not() -> None:
    def drawn(seed: int) -> list[tuple[float, str, Lane]]:
        bob = AddedTenant("bob", 1.0)
        made = requests(seed, requests=100, tenants=9, batch_share=0.5, added=(bob,))
        return [(request.at, request.tenant, request.lane) for request in made]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("block_tokens", [51, 128, 512])
@pytest.mark.parametrize("shared", [0, 1, 3, 4])
def test_links_are_shared_as_those_of_token_ids_are(block_tokens: int, shared: int) -> None:
    """Prompts whose first blocks are alike share all whole chunks within these, and no other."""
    one, other = [1, 2, 3, 4], [1, 2, 3, 4][:shared] + [9] * (4 - shared)
    links = [links_of(names_of(0, blocks), block_tokens) for blocks in (one, other)]
    tokens = [[block for block in blocks for _ in range(block_tokens)] + [0] for blocks in (one, other)]
    chained = [chain(prompt, b"") for prompt in tokens]
    assert len(links[0]) == len(chained[0])

    def alike(pair: list[tuple[int, ...]]) -> int:
        return sum(a == b for a, b in zip(*pair, strict=True))

    assert alike(links) == alike(chained) == shared * block_tokens // CHUNK_TOKENS
