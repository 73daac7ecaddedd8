"""Documents that are there already, over all pieces: equal ones by their digests, near ones by their signatures.

Memory is bounded by the numbers themselves: they are taken in ranges, as many at a time as fit, and each range is put
in order by itself. Of equal or nearly equal documents the first one stays.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pileus.data.heap import Heap
from pileus.data.minhash import BANDS, Signature, estimate, jaccard
from pileus.data.words import words_of

KEPT, EXACT, NEAR = 0, 1, 2  # what becomes of a document
_ENTRY_BYTES: Final = 64  # of memory, for one number while its range is put in order
_DOUBT: Final = 0.15  # by which an estimate may be below the similarity: more than three standard deviations
_TEXTS: Final = 64  # that are held for being compared

Fates = NDArray[np.uint8]
Told = Callable[[int, int], None]


class Places:
    """Documents of all pieces, numbered through."""

    def __init__(self, heaps: Sequence[Heap]) -> None:
        self.heaps = heaps
        self.begins = np.cumsum([0, *map(len, heaps)])

    def __len__(self) -> int:
        return int(self.begins[-1])

    def of(self, number: int) -> tuple[Heap, int]:
        piece = int(np.searchsorted(self.begins, number, side="right")) - 1
        return self.heaps[piece], number - int(self.begins[piece])

    def split(self, fates: Fates) -> list[Fates]:
        """By pieces."""
        return np.split(fates, self.begins[1:-1])


def exact_duplicates(places: Places, fates: Fates, memory_bytes: int) -> None:
    """Mark those whose digest an earlier document has."""
    for low, high in _ranges(len(places), memory_bytes):
        firsts, seconds, numbers = [], [], []
        for begin, heap in zip(places.begins, places.heaps, strict=False):
            digests = heap.digests()
            found = np.flatnonzero((digests[:, 0] >= low) & (digests[:, 0] <= high))
            firsts.append(digests[found, 0])
            seconds.append(digests[found, 1])
            numbers.append(found + begin)
        first, second, number = map(np.concatenate, (firsts, seconds, numbers))
        order = np.lexsort((number, second, first))
        again = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
        fates[number[order][1:][again]] = EXACT


def near_duplicates(places: Places, fates: Fates, similarity: float, memory_bytes: int, told: Told) -> None:
    """Mark those that with an earlier one, or over several steps, are similar."""
    groups = _Groups(len(places))
    compare = _Comparison(places, similarity)
    for band in range(BANDS):
        told(band, BANDS)
        for one, other in each_candidate(places, fates, band, memory_bytes):
            if groups.first(one) != groups.first(other) and compare.are_similar(one, other):
                groups.join(one, other)
    later = groups.later()
    fates[later[fates[later] == KEPT]] = NEAR


def each_candidate(places: Places, fates: Fates, band: int, memory_bytes: int) -> Iterator[tuple[int, int]]:
    """Those that share the band's number: each with the first that has it, and with the one before it."""
    for low, high in _ranges(len(places), memory_bytes):
        keys, numbers = [], []
        for begin, heap in zip(places.begins, places.heaps, strict=False):
            own = heap.band(band)
            kept = fates[begin : begin + len(own)] == KEPT
            found = np.flatnonzero(kept & (own >= low) & (own <= high))
            keys.append(own[found])
            numbers.append(found + begin)
        key, number = map(np.concatenate, (keys, numbers))
        order = np.argsort(key, kind="stable")
        key, number = key[order], number[order]
        again = np.flatnonzero(key[1:] == key[:-1]) + 1
        firsts = np.searchsorted(key, key[again])
        for place, first in zip(again.tolist(), firsts.tolist(), strict=True):
            yield int(number[first]), int(number[place])
            if first != place - 1:
                yield int(number[place - 1]), int(number[place])


class _Comparison:
    """Two documents side by side. Signatures tell most; what they leave open, the texts do."""

    def __init__(self, places: Places, similarity: float) -> None:
        self._places = places
        self._similarity = similarity
        self._words = lru_cache(_TEXTS)(lambda number: words_of(self._text(number)))

    def are_similar(self, one: int, other: int) -> bool:
        if estimate(self._signature(one), self._signature(other)) < self._similarity - _DOUBT:
            return False
        return jaccard(self._words(one), self._words(other)) >= self._similarity

    def _signature(self, number: int) -> Signature:
        heap, place = self._places.of(number)
        return heap.signature(place)

    def _text(self, number: int) -> str:
        heap, place = self._places.of(number)
        return heap.text(place)


class _Groups:
    """Documents that belong together, each group known by its first."""

    def __init__(self, count: int) -> None:
        self._above = np.arange(count, dtype=np.int64)

    def first(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = int(above[number])
        return number

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.first(one), self.first(other)))
        self._above[second] = first

    def later(self) -> NDArray[np.int64]:
        """All but the first of each group."""
        return np.flatnonzero(self._above != np.arange(len(self._above)))


def _ranges(count: int, memory_bytes: int) -> Iterator[tuple[np.uint64, np.uint64]]:
    """Of 64-bit numbers: as many as it takes for each to fit into memory, first and last included."""
    parts = max(-(-count * _ENTRY_BYTES // memory_bytes), 1)
    bounds = [part * (1 << 64) // parts for part in range(parts + 1)]
    for low, high in pairwise(bounds):
        yield np.uint64(low), np.uint64(high - 1)
