"""Signatures of documents by which near duplicates are found (Broder 1997; bands: Leskovec et al., Mining of Massive
Datasets, 3.4).

A document is the set of its runs of five words. For each of 126 hash functions the signature holds the least value
over the set: two documents have the same one with a probability that is their Jaccard similarity. Six of them together
are a band, and documents that share one of the 21 bands are candidates: at a similarity of 0.8 with a probability of
0.998, at 0.5 of 0.28.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pileus.data.words import Numbers, Words, runs

BANDS: Final = 21
ROWS: Final = 6
FUNCTIONS: Final = BANDS * ROWS
RUN: Final = 5
_BLOCK: Final = 512  # members of the set that are hashed together
_SEED: Final = 0x5EED
_HALF: Final = np.uint64(32)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)

Signature = NDArray[np.uint32]


def members(words: Words) -> Numbers:
    """The set that stands for a document, with repetitions; a text of less than five words is one member."""
    found = runs(words.numbers, min(RUN, max(len(words), 1))).copy()
    found ^= found >> _HALF
    found *= _MIX
    return found


def signature(words: Words) -> Signature:
    """[FUNCTIONS]"""
    factors, summands = _functions()
    least = np.full(FUNCTIONS, np.iinfo(np.uint32).max, np.uint32)
    found = (members(words) >> _HALF).astype(np.uint32)
    for begin in range(0, len(found), _BLOCK):
        hashed = found[None, begin : begin + _BLOCK] * factors
        hashed += summands
        np.minimum(least, hashed.min(axis=1), out=least)
    return least


def bands(signatures: NDArray[np.uint32]) -> Numbers:
    """One number for each band: [documents, BANDS] of [documents, FUNCTIONS]."""
    rows = signatures.reshape(-1, BANDS, ROWS).astype(np.uint64)
    numbers = np.zeros(rows.shape[:2], np.uint64)
    for row in range(ROWS):
        numbers ^= rows[:, :, row]
        numbers *= _MIX
        numbers ^= numbers >> _HALF
    return numbers


def estimate(one: Signature, other: Signature) -> float:
    """The Jaccard similarity, with a standard deviation of at most 0.045."""
    return float(np.count_nonzero(one == other)) / FUNCTIONS


def jaccard(one: Words, other: Words) -> float:
    """The similarity itself."""
    first, second = np.unique(members(one)), np.unique(members(other))
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / max(len(first) + len(second) - both, 1)


@cache
def _functions() -> tuple[Signature, Signature]:
    """Multiply by an odd number and add, modulo 2^32: [FUNCTIONS, 1] each. The members are scattered already."""
    state = np.random.RandomState(_SEED)  # whose numbers are the same in all versions of NumPy
    factors, summands = state.randint(0, 1 << 32, (2, FUNCTIONS, 1), dtype=np.uint32)
    return factors | np.uint32(1), summands
