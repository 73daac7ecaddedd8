"""Rows are sorted by adapter into tiles: none is lost, none is given another's adapter."""

from hypothesis import given
from hypothesis import strategies as st

from pileus.engines.native.tiles import BASE, tile


@given(st.lists(st.integers(BASE, 5), min_size=1, max_size=60).filter(lambda slots: max(slots) > BASE))
def test_every_row_with_an_adapter_is_computed_with_it_and_put_back(slots: list[int]) -> None:
    tiles = tile(slots)
    height = tiles.rows.shape[1]
    for row, slot in enumerate(slots):
        assert tiles.adapted[row, 0, 0] == (slot != BASE)
        if slot != BASE:
            place = tiles.places[row]
            assert tiles.rows.reshape(-1)[place] == row
            assert tiles.slots[place // height] == slot
    for rows, slot in zip(tiles.rows, tiles.slots, strict=True):
        assert {slots[row] for row in rows} == {slot}  # also what fills a tile up: nobody's matrices are read for it


def test_many_rows_of_one_adapter_are_read_once_and_single_rows_are_not_padded() -> None:
    assert tile([3] * 256).rows.shape == (1, 256)
    assert tile([0, 1, 2, 3]).rows.shape == (4, 1)
    assert tile([*[0] * 200, *range(1, 20)]).rows.size < 2 * 219
