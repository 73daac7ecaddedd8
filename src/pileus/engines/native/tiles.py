"""A step's rows, sorted by adapter: a tile for each slot of a window, as high as the adapter with the most rows needs.

So the matrices of all slots in the window are one operand as they lie in memory, and are read once, whatever the rows;
to pick them out for each step, or for each row, would cost more than all products (see decision 12). What a window
holds beyond the slots in use is computed in vain, so it is kept narrow.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BASE = -1  # in place of a slot: a row of the base itself
_SLACK = 2  # how many times as wide as it must be a window may stay: each new width costs the runtime a preparation

Window = tuple[int, int]  # slots from the first up to the second


class Tiles(NamedTuple):
    """T rows in G tiles of C rows; G is the window's width."""

    rows: NDArray[np.int32]  # [G, C] which row is computed there; what is left over repeats any row
    places: NDArray[np.int32]  # [T] where a row's result is, of G * C
    adapted: NDArray[np.float32]  # [T, 1, 1]: 0 for rows of the base


def tile(slots: Sequence[int], window: Window) -> Tiles:
    """Tiles for rows with these slots, all of which are `BASE` or in the window."""
    begin, end = window
    every = np.array(slots, np.int32)
    order = np.argsort(every, kind="stable")
    order = order[np.searchsorted(every[order], 0) :]
    tiles = every[order] - begin
    counts = np.bincount(tiles, minlength=end - begin)
    height = 1 << int(counts.max() - 1).bit_length()  # few heights, for the same reason
    firsts = np.cumsum(counts) - counts
    placed = tiles * height + np.arange(len(order)) - firsts[tiles]
    rows = np.zeros((end - begin) * height, np.int32)
    rows[placed] = order
    places = np.zeros(len(every), np.int32)
    places[order] = placed
    return Tiles(rows.reshape(-1, height), places, (every >= 0).astype(np.float32).reshape(-1, 1, 1))


def window_of(slots: Collection[int], before: Window) -> Window:
    """The window for these slots, which is the one before as long as that will do."""
    begin, end = min(slots), max(slots) + 1
    first, last = before
    if first <= begin and end <= last and last - first <= _SLACK * (end - begin):
        return before
    return begin, end


def moves(used: Collection[int]) -> list[tuple[int, int]]:
    """Pairs of slots to be swapped, so that those in use lie side by side; none where they lie close enough."""
    count = len(used)
    if max(used) + 1 - min(used) <= _SLACK * count:
        return []
    inside = set(used)
    start = max(sorted(used), key=lambda first: sum(slot in inside for slot in range(first, first + count)))
    start = min(start, max(used) + 1 - count)
    window = range(start, start + count)
    free = (slot for slot in window if slot not in inside)
    return list(zip((slot for slot in sorted(used) if slot not in window), free, strict=True))
