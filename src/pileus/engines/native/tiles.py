"""A step's rows, sorted by adapter: a low tile for each slot of a window, and tall ones for chunks of prompts.

The matrices of all slots in the window are one operand as they lie in memory, and are read once, whatever the rows;
to pick them out for each step, or for each row, would cost more than all products (see decision 12). What a window
holds beyond the slots in use is computed in vain, so it is kept narrow; and so are rows beyond a slot's own, so where
one slot has many more rows than others, they go into tiles for which its matrices are picked out.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BASE = -1  # in place of a slot: a row of the base itself
_TALL = 64  # rows of a tall tile
_PICKING = 48  # rows that cost as much as to pick out one slot's matrices
_SLACK = 2  # how many times as wide as it must be a window may stay: each new width costs the runtime a preparation

Window = tuple[int, int]  # slots from the first up to the second


class Tiles(NamedTuple):
    """T rows in G low tiles of C rows each and N tall ones of H; G is the window's width."""

    low_rows: NDArray[np.int32]  # [G, C] which row is computed there; what is left over repeats any row
    tall_rows: NDArray[np.int32]  # [N, H] likewise
    tall_slots: NDArray[np.int32]  # [N] whose matrices those are, from the window's beginning on
    places: NDArray[np.int32]  # [T] where a row's result is, of G * C + N * H
    adapted: NDArray[np.float32]  # [T, 1, 1]: 0 for rows of the base


def tile(slots: Sequence[int], window: Window) -> Tiles:
    """Tiles for rows with these slots, all of which are `BASE` or in the window."""
    begin, end = window
    every = np.array(slots, np.int32)
    order = np.argsort(every, kind="stable")
    order = order[np.searchsorted(every[order], 0) :]
    owners = every[order] - begin
    counts = np.bincount(owners, minlength=end - begin)
    height = _height(counts)
    tall = -(-counts // _TALL) * (counts > height)  # how many each slot has
    low_size, tall_size = len(counts) * height, int(tall.sum()) * _TALL
    firsts = np.where(tall, low_size + (np.cumsum(tall) - tall) * _TALL, np.arange(len(counts)) * height)
    placed = firsts[owners] + np.arange(len(order)) - (np.cumsum(counts) - counts)[owners]
    rows = np.zeros(low_size + tall_size, np.int32)
    rows[placed] = order
    places = np.zeros(len(every), np.int32)
    places[order] = placed
    return Tiles(
        rows[:low_size].reshape(-1, height),
        rows[low_size:].reshape(-1, _TALL),
        np.repeat(np.arange(len(counts), dtype=np.int32), tall),
        places,
        (every >= 0).astype(np.float32).reshape(-1, 1, 1),
    )


def _height(counts: NDArray[np.int64]) -> int:
    """Of the low tiles: the power of two that leaves the least to do. Few heights, for each new one costs the runtime
    a preparation."""
    heights = 1 << np.arange(int(counts.max() - 1).bit_length() + 1)
    taller = -(-counts // _TALL) * (counts > heights[:, None])
    return int(heights[np.argmin(len(counts) * heights + taller.sum(1) * (_TALL + _PICKING))])


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
