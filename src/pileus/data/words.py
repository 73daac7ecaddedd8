"""A text as numbers, one for each word, so that what compares texts is arithmetic on arrays.

A word is a run of letters and digits, in lower case; a Han or kana character is a word by itself, since those scripts
write none apart. Punctuation and blanks belong to no word. The same word has the same number in every process and on
every machine.

The number is a polynomial of the word's characters modulo 2^64. All words of a text are computed together: each
character times a power that goes by its place in the text, summed from one word's beginning to the next, and divided
by the power at the beginning (an odd number has an inverse modulo 2^64).
"""

import unicodedata
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Width = TypeVar("Width", np.uint32, np.uint64)

_PLANE: Final = 0x10000
_CHARACTERS: Final = 0x110000
_ALONE: Final = np.uint32(1 << 31)  # marks a character that is a word by itself
_ALONE_RANGES: Final = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_EMOJI: Final = slice(0x1F000, 0x1FB00)
_BLOCK: Final = 1 << 16  # characters that are computed together
_BASE: Final = 0x9E3779B97F4A7C15
_MIX: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_HALF: Final = np.uint64(32)
_SPACE: Final = 32
_LONGEST_RUN: Final = 64  # words


class Words(Struct, frozen=True):
    """Of one text."""

    numbers: Numbers  # [words]
    letters: int  # characters that belong to words
    blanks: int  # blanks and line ends
    alone: int  # words that are one ideographic character

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def is_ideographic(self) -> bool:
        return 2 * self.alone > len(self.numbers)


def words_of(text: str) -> Words:
    """A word that lies across two blocks of 65,536 characters counts as two."""
    if len(text) <= _BLOCK:
        return _of_block(text)
    parts = [_of_block(text[begin : begin + _BLOCK]) for begin in range(0, len(text), _BLOCK)]
    numbers = np.concatenate([part.numbers for part in parts])
    letters, blanks, alone = (
        sum(counts) for counts in zip(*((p.letters, p.blanks, p.alone) for p in parts), strict=True)
    )
    return Words(numbers, letters, blanks, alone)


def runs(numbers: NDArray[Width], length: int) -> NDArray[Width]:
    """One number for each run of `length` words: [words - length + 1], none for a shorter text."""
    found, done = numbers, 1
    for digit in bin(length)[
        3:
    ]:  # runs of two, four, eight: each out of two of the half; and one word more where needed
        found, done = _joined(found, found, done), 2 * done
        if digit == "1":
            found, done = _joined(found, numbers, done), done + 1
    return found


def _joined(firsts: NDArray[Width], seconds: NDArray[Width], length: int) -> NDArray[Width]:
    """Runs of `length` words and what follows them, as one number each: a polynomial again."""
    count = max(len(seconds) - length, 0)
    joined: NDArray[Width] = firsts[:count] * _lengths()[firsts.itemsize][length]
    joined += seconds[length : length + count]
    return joined


def _of_block(text: str) -> Words:
    alone = 0
    written: NDArray[np.unsignedinteger]
    codes: NDArray[np.unsignedinteger]
    if text.isascii():
        content = text.encode("ascii")
        written = np.frombuffer(content, np.uint8)
        codes = np.frombuffer(content.translate(_ascii()), np.uint8)
        spoken = codes != 0
        begins = spoken.copy()
        np.greater(spoken[1:], spoken[:-1], out=begins[1:])
    else:
        written = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        codes = _table()[written]
        spoken = codes != 0
        begins = spoken.copy()
        single = codes >= _ALONE
        begins[1:] &= ~spoken[:-1] | single[1:] | single[:-1]
        alone = int(np.count_nonzero(single))
    starts = begins.nonzero()[0]
    blanks = int(np.count_nonzero(written <= _SPACE))
    if not len(starts):
        return Words(np.zeros(0, np.uint64), 0, blanks, 0)
    powers, inverses = _powers()
    numbers = np.add.reduceat(powers[: len(codes)] * codes, starts)  # what lies between words is 0
    numbers *= inverses[starts]
    numbers ^= numbers >> _HALF
    numbers *= _MIX
    return Words(numbers, int(np.count_nonzero(spoken)), blanks, alone)


@cache
def _ascii() -> bytes:
    """What each character counts as; 0 for those of no word."""
    return bytes(ord(chr(code).lower()) if chr(code).isalnum() else 0 for code in range(128)) + bytes(128)


@cache
def _table() -> NDArray[np.uint32]:
    """As `_ascii`, for all characters. Beyond the first plane all but emoji belong to words."""
    table = np.arange(_CHARACTERS, dtype=np.uint32)
    table[:_PLANE] = [_code(chr(code)) for code in range(_PLANE)]
    table[_EMOJI] = 0
    for first, last in _ALONE_RANGES:
        table[first : last + 1] |= np.where(table[first : last + 1] != 0, _ALONE, np.uint32(0))
    return table


def _code(character: str) -> int:
    if unicodedata.category(character)[0] not in "LNM":
        return 0
    lower = character.lower()
    return ord(lower) if len(lower) == 1 else ord(character)


@cache
def _powers() -> tuple[Numbers, Numbers]:
    """Of the base, and their inverses: [block]."""
    inverse = pow(_BASE, -1, 1 << 64)
    return _powers_of(_BASE), _powers_of(inverse)


def _powers_of(base: int) -> Numbers:
    return np.cumprod(np.full(_BLOCK, base, np.uint64), dtype=np.uint64)


@cache
def _lengths() -> dict[int, Any]:
    """The base to the power of each length that is joined, by the width of a number in bytes."""
    exact = [pow(_BASE, length, 1 << 64) for length in range(_LONGEST_RUN)]
    return {4: np.array(exact, np.uint64).astype(np.uint32), 8: np.array(exact, np.uint64)}
