"""In which order lines run."""

from hypothesis import given
from hypothesis import strategies as st

from pileus.batch.order import BLOCK_CHARACTERS, MOST_BLOCKS, prefix_key, running_order

texts = st.lists(
    st.lists(st.sampled_from(["a", "b", "é"]), max_size=5).map(
        lambda blocks: "".join(letter * BLOCK_CHARACTERS for letter in blocks)
    ),
    max_size=30,
)


@given(texts, st.integers(1, 5))
def test_texts_that_share_a_beginning_of_any_number_of_blocks_stand_together(found: list[str], blocks: int) -> None:
    order = running_order([0] * len(found), [prefix_key(text) for text in found])
    assert sorted(order) == list(range(len(found)))
    length = blocks * BLOCK_CHARACTERS
    beginnings = [found[place][:length] for place in order if len(found[place]) >= length]
    runs = [one for one, before in zip(beginnings, [None, *beginnings], strict=False) if one != before]
    assert len(runs) == len(set(runs))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "x" * 128, "y" * 128])), max_size=30))
def test_each_group_stands_together_and_equals_stay_as_they_came(lines: list[tuple[int, str]]) -> None:
    groups = [group for group, _ in lines]
    order = running_order(groups, [prefix_key(text) for _, text in lines])
    assert [groups[place] for place in order] == sorted(groups)
    for line in set(lines):
        places = [place for place in order if lines[place] == line]
        assert places == sorted(places)


def test_a_key_is_bounded_and_tells_whole_blocks_only() -> None:
    assert prefix_key("x" * 127) == b""
    assert len(prefix_key("x" * 1_000_000)) == 4 * MOST_BLOCKS
    assert prefix_key("x" * 128 + "tail") == prefix_key("x" * 128)
    assert prefix_key("x" * 128 + "y" * 128)[:4] == prefix_key("x" * 128)
    assert prefix_key("x" * 128 + "y" * 128) != prefix_key("y" * 128 + "x" * 128)
