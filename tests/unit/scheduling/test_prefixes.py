"""Who has computed which beginnings of prompts, in bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.prefixes import CHUNK_TOKENS, ENDS, MOST_MATCHES, PrefixIndex, chain, shared_chunks, tokens_in

PLENTY = 1 << 30


def links(*chunks: int) -> tuple[int, ...]:
    """Of a prompt whose chunks are these, and a token more."""
    return chain([chunk for chunk in chunks for _ in range(CHUNK_TOKENS)] + [0], b"")


def index(*replicas: str, capacity: int = 1 << 17, kv_tokens: int = PLENTY) -> PrefixIndex:
    made = PrefixIndex(capacity)
    for replica in replicas:
        made.open(replica, kv_tokens)
    return made


def test_another_tenants_prefix_is_another_one() -> None:
    prompt = [1] * 2 * CHUNK_TOKENS
    assert not set(chain(prompt, b"a")).intersection(chain(prompt, b"b"))


def test_the_last_token_is_never_counted_as_held() -> None:
    assert len(chain([7] * CHUNK_TOKENS, b"")) == 0
    assert len(chain([7] * (CHUNK_TOKENS + 1), b"")) == 1


def test_a_long_prompt_has_long_chunks_and_an_end() -> None:
    assert tokens_in(0) == 0
    assert [tokens_in(chunks) for chunks in (1, 2, 16, 17)] == [128, 256, 2048, 2560]
    assert len(chain([7] * 200_000, b"")) == len(ENDS) == 140
    assert ENDS[-1] == 65_536


@given(st.integers(0, 30), st.integers(0, 9), st.integers(0, 9))
def test_two_prompts_share_their_common_beginning(common: int, mine: int, yours: int) -> None:
    beginning = tuple(range(100, 100 + common))
    assert shared_chunks(beginning + (1,) * mine, beginning + (2,) * yours) == common


def test_a_prefix_is_held_as_far_as_it_is_the_same() -> None:
    made = index("a", "b", "c")
    made.add(links(1, 2, 3), "a")
    made.add(links(1, 2, 9), "b")
    made.add(links(1), "c")
    assert made.matches(links(1, 2, 9, 9)) == {"a": 2 * CHUNK_TOKENS, "b": 3 * CHUNK_TOKENS, "c": CHUNK_TOKENS}
    assert made.held(links(1, 2, 9, 9), "b") == 3
    made.close("b")
    assert made.matches(links(1, 2, 9)) == {"a": 2 * CHUNK_TOKENS, "c": CHUNK_TOKENS}


def test_nothing_is_held_of_an_unknown_or_a_short_prompt() -> None:
    made = index("a")
    made.add(links(1, 2), "a")
    assert made.matches(links(2, 1)) == {}
    assert made.matches(()) == {}


def test_those_that_hold_most_are_told_first_and_only_some() -> None:
    made = index(*(f"r{number}" for number in range(50)))
    for number in range(50):
        made.add(links(1), f"r{number}")
    made.add(links(1, 2, 3, 4), "r40")
    found = made.matches(links(1, 2, 3, 4, 5))
    assert found["r40"] == 4 * CHUNK_TOKENS
    assert next(iter(found)) == "r40"
    assert len(found) == MOST_MATCHES


def test_what_was_not_computed_can_be_taken_back() -> None:
    made = index("a", "b")
    for replica in ("a", "b"):
        made.add(links(1, 2, 3), replica)
    made.discard(links(1, 2, 3)[1:], "a")
    made.discard(links(1, 2, 3)[1:], "a")
    assert made.matches(links(1, 2, 3)) == {"b": 3 * CHUNK_TOKENS, "a": CHUNK_TOKENS}


def test_a_replica_is_believed_to_hold_no_more_than_its_memory_does() -> None:
    made = index("a", kv_tokens=3 * CHUNK_TOKENS)
    made.add(links(1, 2), "a")
    made.add(links(7, 8), "a")
    assert made.held(links(1, 2), "a") == 1  # the end of what was used last longest ago is gone
    assert made.held(links(7, 8), "a") == 2


def test_the_beginning_that_is_used_again_stays() -> None:
    made = index("a", kv_tokens=3 * CHUNK_TOKENS)
    for number in range(100, 120):
        made.add(links(1, number), "a")
    assert made.held(links(1, 119), "a") == 2
    assert made.held(links(1, 100), "a") == 1


def test_the_memory_is_bounded_over_all_replicas() -> None:
    made = index(capacity=12)
    for number in range(6):
        made.open(f"r{number}", PLENTY)
        for prompt in range(5):
            made.add(links(number, 10 + prompt, 20), f"r{number}")
            assert len(made) <= 12
    assert all(made.held(links(number, 14, 20), f"r{number}") == 2 for number in range(6))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 2), max_size=6)), max_size=40))
def test_what_is_told_is_what_was_computed(prompts: list[tuple[str, list[int]]]) -> None:
    made = index("a", "b", "c")
    told: dict[str, list[tuple[int, ...]]] = {"a": [], "b": [], "c": []}
    for replica, chunks in prompts:
        made.add(links(*chunks), replica)
        told[replica].append(links(*chunks))
    for _, chunks in prompts:
        expected = {
            replica: tokens_in(max((shared_chunks(links(*chunks), other) for other in others), default=0))
            for replica, others in told.items()
        }
        assert made.matches(links(*chunks)) == {replica: tokens for replica, tokens in expected.items() if tokens}


def test_nothing_is_left_of_replicas_that_are_gone() -> None:
    made = index("a", "b")
    for replica in ("a", "b"):
        made.add(links(1, 2, 3), replica)
        made.close(replica)
    assert len(made) == 0
    assert made.matches(links(1, 2, 3)) == {}
    with pytest.raises(KeyError):
        made.held(links(1), "a")
