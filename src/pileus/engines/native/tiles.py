"""A step's rows, sorted by adapter into tiles: so each adapter's matrices are read once for all rows that it has.

A tile is `height` rows of one adapter. Tall tiles waste room where adapters have few rows each, flat ones read an
adapter's matrices again and again; a height of 1 would read them once per row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BASE = -1  # in place of a slot: a row of the base itself
_READING = 12.0  # what it costs to read an adapter's matrices for a tile, in rows that are computed (measured)
_HEIGHTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Tiles(NamedTuple):
    """T rows in G tiles of C rows."""

    rows: NDArray[np.int32]  # [G, C] which row is computed there; what is left over of a tile repeats a row
    slots: NDArray[np.int32]  # [G] whose adapter's
    places: NDArray[np.int32]  # [T] where a row's result is, of G * C
    adapted: NDArray[np.float32]  # [T, 1, 1]: 0 for rows of the base


def tile(slots: Sequence[int]) -> Tiles:
    """Tiles for rows with these slots, of which at least one is not `BASE`."""
    every = np.array(slots, np.int32)
    order = np.argsort(every, kind="stable")
    order = order[np.searchsorted(every[order], 0) :]
    used, starts, counts = np.unique(every[order], return_index=True, return_counts=True)
    height = _height(counts)
    tiles_of = -(-counts // height)
    first_tile = np.cumsum(tiles_of) - tiles_of
    within = np.arange(len(order)) - np.repeat(starts, counts)
    places = np.zeros(len(every), np.int32)
    places[order] = np.repeat(first_tile, counts) * height + within
    rows = np.repeat(order[starts], tiles_of * height).astype(np.int32)
    rows[places[order]] = order
    return Tiles(
        rows.reshape(-1, height),
        np.repeat(used, tiles_of),
        places,
        (every >= 0).astype(np.float32).reshape(-1, 1, 1),
    )


def _height(counts: NDArray[np.int64]) -> int:
    """The cheapest for adapters with so many rows each."""
    return min(_HEIGHTS, key=lambda height: float((-(-counts // height)).sum() * (_READING + height)))
