"""Where a request goes."""

from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.routing import AnswerLength, ReplicaLoad, least_loaded


def load(free_slots: int, free_kv_blocks: int) -> ReplicaLoad:
    return ReplicaLoad(8, 100, free_slots, free_kv_blocks)


def test_the_replica_with_the_largest_free_share_of_its_scarcer_resource_wins() -> None:
    assert least_loaded(1, 5, [load(2, 90), load(6, 50), load(7, 10)]) == 1


def test_nowhere_is_an_answer() -> None:
    assert least_loaded(2, 5, [load(1, 90), load(7, 4)]) is None
    assert least_loaded(1, 1, []) is None


def test_an_idle_replica_takes_what_is_predicted_to_be_too_large() -> None:
    assert least_loaded(1, 500, [load(8, 100)]) == 0
    assert least_loaded(1, 500, [load(7, 100)]) is None


@given(st.lists(st.builds(load, st.integers(0, 8), st.integers(0, 100))), st.integers(1, 8), st.integers(1, 100))
def test_the_chosen_replica_has_room(replicas: list[ReplicaLoad], slots: int, blocks: int) -> None:
    index = least_loaded(slots, blocks, replicas)
    fits = [(r.free_slots >= slots and r.free_kv_blocks >= blocks) or r.free_slots == r.slots for r in replicas]
    assert index is None if not any(fits) else index is not None and fits[index]


def test_answer_lengths_are_learnt_and_bounded_by_the_request() -> None:
    lengths = AnswerLength()
    for _ in range(400):
        lengths.observe(30)
    assert lengths.predict(1000) in range(28, 34)
    assert lengths.predict(7) == 7
