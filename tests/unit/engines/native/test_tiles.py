"""Rows are sorted by adapter into tiles: none is lost, none is given another's adapter."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pileus.engines.native.tiles import BASE, moves, tile, window_of


@given(
    st.lists(st.tuples(st.integers(3, 8) | st.just(BASE), st.integers(1, 200)), min_size=1, max_size=12).filter(
        lambda runs: max(slot for slot, _ in runs) > BASE
    ),
    st.integers(0, 3),
    st.integers(9, 12),
)
def test_every_row_with_an_adapter_is_computed_with_it_and_put_back(
    runs: list[tuple[int, int]], begin: int, end: int
) -> None:
    slots = [slot for slot, length in runs for _ in range(length)]
    tiles = tile(slots, (begin, end))
    count, height = tiles.low_rows.shape
    assert count == end - begin
    assert len(tiles.tall_rows) == len(tiles.tall_slots)
    owners = np.concatenate([np.repeat(range(count), height), np.repeat(tiles.tall_slots, tiles.tall_rows.shape[1])])
    computed = np.concatenate([tiles.low_rows.ravel(), tiles.tall_rows.ravel()])
    assert len({tiles.places[row] for row, slot in enumerate(slots) if slot != BASE}) == sum(s != BASE for s in slots)
    for row, slot in enumerate(slots):
        assert tiles.adapted[row, 0, 0] == (slot != BASE)
        if slot != BASE:
            assert computed[tiles.places[row]] == row
            assert owners[tiles.places[row]] == slot - begin


def shapes(slots: list[int], window: tuple[int, int]) -> tuple[tuple[int, ...], int]:
    tiles = tile(slots, window)
    return tiles.low_rows.shape, len(tiles.tall_rows)


def test_tiles_are_as_high_as_the_adapter_with_the_most_rows_needs() -> None:
    assert shapes([3] * 256, (3, 4)) == ((1, 256), 0)
    assert shapes([0, 1, 2, 3], (0, 4)) == ((4, 1), 0)
    assert shapes([0, 0, 0, 1, BASE], (0, 2)) == ((2, 4), 0)


def test_a_prompt_among_answers_has_tiles_of_its_own_and_does_not_heighten_theirs() -> None:
    assert shapes([*[7] * 200, *range(20)], (0, 20)) == ((20, 1), 4)
    assert shapes([*[3] * 60, *[4] * 70, *range(5, 20)], (0, 20)) == ((20, 1), 3)


def test_a_window_stays_while_it_will_do() -> None:
    assert window_of([2, 5], (0, 0)) == (2, 6)
    assert window_of([3, 4], (2, 6)) == (2, 6)
    assert window_of([3], (2, 6)) == (3, 4)
    assert window_of([1, 4], (2, 6)) == (1, 5)


@given(st.sets(st.integers(0, 31), min_size=1))
def test_swaps_bring_those_in_use_together_and_move_no_more_than_must_be(used: set[int]) -> None:
    found = moves(used)
    after = used - {one for one, _ in found} | {other for _, other in found}
    assert len(after) == len(used)
    assert all(other not in used for _, other in found)
    assert max(after) + 1 - min(after) <= 2 * len(used)
    if max(used) + 1 - min(used) <= 2 * len(used):
        assert not found


def test_what_lies_together_stays_and_the_others_come_to_it() -> None:
    assert moves([4, 5, 31]) == [(31, 6)]
