"""Leaders, their followers, and what becomes of these when a leader leaves."""

from hypothesis import given
from hypothesis import strategies as st

from pileus.scheduling.following import Prefills
from pileus.scheduling.prefixes import CHUNK_TOKENS

A, B, C, D = 11, 12, 13, 14  # links


def test_a_prompt_counts_until_its_first_token() -> None:
    made = Prefills()
    made.begin("a", (), 0, 300)
    made.begin("b", (A, B), 2, 300)
    assert made.tokens == 300 + 300 - 2 * CHUNK_TOKENS
    made.end("a")
    assert made.tokens == 300 - 2 * CHUNK_TOKENS
    assert list(made.leave("b")) == []
    assert made.tokens == 0


def test_at_least_the_last_token_is_always_computed() -> None:
    made = Prefills()
    made.begin("a", (A,), 1, CHUNK_TOKENS)
    assert made.tokens == 1


def test_who_leaves_alone_takes_everything_back_that_was_not_there_before() -> None:
    made = Prefills()
    made.begin("a", (A, B, C), 1, 1000)
    assert list(made.leave("a")) == [B, C]


def test_a_follower_takes_over_what_it_needs() -> None:
    made = Prefills()
    made.begin("leader", (A, B, C), 0, 400)
    made.begin("near", (A, D), 1, 300)
    made.begin("follower", (A, B, D), 2, 400)
    assert list(made.leave("leader")) == [C]
    assert made.tokens == 300 - CHUNK_TOKENS + 400
    assert list(made.leave("follower")) == [B, D]  # `near` takes over the first
    assert made.tokens == 300
    assert list(made.leave("near")) == [A, D]


def test_a_follower_that_is_done_first_has_done_that_for_its_leader_too() -> None:
    made = Prefills()
    made.begin("leader", (A, B, C), 0, 400)
    made.begin("follower", (A,), 1, 200)
    made.end("follower")
    assert made.tokens == 400 - CHUNK_TOKENS
    assert list(made.leave("leader")) == [B, C]


def test_a_leader_that_is_done_leaves_nothing_to_take_over() -> None:
    made = Prefills()
    made.begin("leader", (A, B), 0, 300)
    made.begin("follower", (A, B, C), 2, 400)
    made.end("leader")
    assert list(made.leave("follower")) == [C]


CHUNKS = st.lists(st.sampled_from((0, 1)), max_size=5)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), CHUNKS), max_size=40))
def test_every_chunk_on_its_way_has_one_who_computes_it(steps: list[tuple[int, bool, list[int]]]) -> None:
    """Against a plain account of which chunks are there, and which are expected."""
    made = Prefills()
    there: set[int] = set()
    open_: dict[int, list[int]] = {}
    expected: set[int] = set()
    for name, computed, chunks in steps:
        if name not in open_:
            links = [hash(tuple(chunks[: end + 1])) for end in range(len(chunks))]
            found = next((place for place, link in enumerate(links) if link not in there | expected), len(links))
            made.begin(name, links, found, CHUNK_TOKENS * (len(links) + 1))
            open_[name] = links
            expected |= set(links) - there
        elif computed:
            made.end(name)
            there |= set(open_.pop(name))
            expected -= there
        else:
            expected -= set(made.leave(name))
            open_.pop(name)
        assert expected == {link for links in open_.values() for link in links} - there
        assert made.tokens == CHUNK_TOKENS * (len(expected) + len(open_))
