"""Which texts an encoder takes next."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pileus.core.records import Lane
from pileus.scheduling.texts import TextQueue, plan_texts


def queue(lengths: Sequence[int], lane: Lane = Lane.ON_DEMAND, served: int = 0) -> TextQueue:
    return TextQueue(lengths, lane, served)


def places(plan: list[tuple[TextQueue, int]], of: TextQueue) -> list[int]:
    return [place for each, place in plan if each is of]


def test_texts_of_about_one_length_go_together() -> None:
    one = queue([10, 200, 11, 199, 9])
    assert places(plan_texts([one], 1024), one) == [1, 3]
    assert places(plan_texts([one], 1024), one) == [2, 0, 4]


def test_a_short_text_rides_along_where_it_costs_less_than_a_pass() -> None:
    one = queue([30, 10])
    assert len(plan_texts([one], 1024)) == 2


def test_a_single_text_does_not_wait_behind_ten_thousand() -> None:
    big, small = queue([20] * 10_000), queue([20])
    plan_texts([big, small], 200)
    assert not small


def test_a_request_that_others_came_after_is_not_held_up_for_ever() -> None:
    big = queue([20] * 100)
    for _ in range(40):
        small = [queue([20] * 5, served=big.served) for _ in range(2)]
        plan_texts([*small, big], 100)
        if not big:
            break
    assert len(big) < 100


def test_batch_work_gets_what_urgent_work_leaves() -> None:
    batch, urgent = queue([20] * 50, Lane.BATCH), queue([20] * 5, served=10_000)
    plan = plan_texts([batch, urgent], 20 * 10)
    assert len(places(plan, urgent)) == 5
    assert len(places(plan, batch)) == 5


@given(
    st.lists(st.lists(st.integers(1, 512), min_size=1, max_size=40), min_size=1, max_size=6),
    st.integers(16, 4096),
)
def test_every_text_is_taken_once_and_no_step_is_too_large(requests: list[list[int]], step_tokens: int) -> None:
    queues = [queue(lengths) for lengths in requests]
    taken: list[list[int]] = [[] for _ in requests]
    while any(queues):
        plan = plan_texts(queues, step_tokens)
        assert plan
        lengths = [requests[queues.index(each)][place] for each, place in plan]
        assert len(plan) == 1 or len(plan) * max(lengths) <= step_tokens
        assert len(plan) * max(lengths) - sum(lengths) <= max(64, step_tokens / 16)
        for each, place in plan:
            taken[queues.index(each)].append(place)
    assert [sorted(found) for found in taken] == [list(range(len(lengths))) for lengths in requests]
    assert all(each.tokens == 0 for each in queues)
