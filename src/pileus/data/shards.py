"""Token files that training reads, mapped into memory and never loaded as a whole. NumPy only.

A dataset is a folder with `dataset.json`, which names for each split its shards in their order. A shard is two files:
the tokens of its documents one after the other, each document closed by the end-of-text token (`*.tokens`: uint16, or
uint32 for a vocabulary of more than 65,536; little-endian), and where each document ends (`*.ends`: uint64, in tokens).

Windows. All tokens of a split, in the order of its shards, are one sequence of T tokens. A reader of windows of
`length` tokens cuts it into T // length windows beginning at multiples of `length`; what is left over at the end is
not read. For a seed, epoch `e` is one permutation of these windows. Row `r` of step `s` at batch size `b` is the
window that the epoch (s * b + r) // windows has at place (s * b + r) % windows. So every window is read once in each
epoch, a step's batch depends on nothing but (seed, step, batch, length) and the data, and to resume is to go on with
the next step. For next-token training ask for one token more than the model sees, and shift.

The permutation is a Feistel network of four rounds over the numbers from 0 to windows - 1 (cycle-walking): it takes no
memory, and is the same with every version of NumPy.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

MANIFEST: Final = "dataset.json"
TOKENIZER: Final = "tokenizer.json"
_FORMAT: Final = 1
_ROUNDS: Final = 4

Tokens = NDArray[np.int64]


class Shard(Struct, frozen=True, kw_only=True):
    """Two files, `NAME.tokens` and `NAME.ends`."""

    name: str
    tokens: int
    documents: int
    sha256: str  # of the tokens


class Manifest(Struct, frozen=True, kw_only=True):
    """`dataset.json`."""

    id: str  # by the content: the tokenizer, and all tokens in their order
    width: int  # bytes of a token: 2 or 4
    vocabulary: int
    end_of_text: int  # the token that closes each document
    special_tokens: dict[str, int]
    splits: dict[str, list[Shard]]
    format: int = _FORMAT

    def tokens(self, split: str) -> int:
        return sum(shard.tokens for shard in self.splits[split])


def read_manifest(folder: Path) -> Manifest:
    """Raises `OSError` where there is none, `ValueError` for one that this program does not know."""
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    if manifest.format != _FORMAT:
        raise ValueError(f"{folder / MANIFEST} is of format {manifest.format}; this version reads {_FORMAT}")
    return manifest


class ShardReader:
    """One split of a dataset. Raises `ValueError` for a split that it does not have, or that is not as the manifest
    says."""

    def __init__(self, folder: Path, split: str = "train") -> None:
        self.manifest = read_manifest(folder)
        if split not in self.manifest.splits:
            raise ValueError(f"{folder} has no split {split!r}, but {', '.join(self.manifest.splits)}")
        shards = self.manifest.splits[split]
        kind = np.dtype("<u2" if self.manifest.width == 2 else "<u4")
        self._tokens = [_mapped(folder / f"{shard.name}.tokens", kind, shard.tokens) for shard in shards]
        self._ends = [_mapped(folder / f"{shard.name}.ends", np.dtype("<u8"), shard.documents) for shard in shards]
        self._begins = np.cumsum([0, *(shard.tokens for shard in shards)])
        self._documents = np.cumsum([0, *(shard.documents for shard in shards)])

    @property
    def tokens(self) -> int:
        return int(self._begins[-1])

    @property
    def documents(self) -> int:
        return int(self._documents[-1])

    def windows(self, length: int) -> int:
        """How many windows of so many tokens an epoch has."""
        return self.tokens // length

    def batch(self, seed: int, step: int, batch: int, length: int) -> Tokens:
        """[batch, length], for that step from 0 on. Raises `ValueError` where not even one window is there."""
        count = self.windows(length)
        if not count:
            raise ValueError(f"{self.tokens} tokens are less than one window of {length}")
        numbers = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
        rows = np.empty((batch, length), np.int64)
        for row, number in enumerate(numbers.tolist()):
            epoch, place = divmod(number, count)
            rows[row] = self.span(permuted(place, count, seed, epoch) * length, length)
        return rows

    def span(self, begin: int, length: int) -> Tokens:
        """So many tokens of the sequence; of several shards where it lies across their ends. [length]"""
        found = np.empty(length, np.int64)
        done = 0
        shard = int(np.searchsorted(self._begins, begin, side="right")) - 1
        while done < length:
            offset = begin + done - int(self._begins[shard])
            part = self._tokens[shard][offset : offset + length - done]
            found[done : done + len(part)] = part
            done += len(part)
            shard += 1
        return found

    def document(self, number: int) -> Tokens:
        """One document, with its end-of-text token. [tokens]"""
        shard = int(np.searchsorted(self._documents, number, side="right")) - 1
        place = number - int(self._documents[shard])
        ends = self._ends[shard]
        begin = int(ends[place - 1]) if place else 0
        return self._tokens[shard][begin : int(ends[place])].astype(np.int64)

    def each_document(self) -> Iterator[Tokens]:
        return map(self.document, range(self.documents))


def permuted(place: int, count: int, seed: int, epoch: int) -> int:
    """The number at that place of a permutation of the numbers below `count`, which seed and epoch choose."""
    half = max((count - 1).bit_length() + 1, 2) // 2
    keys = _keys(seed, epoch)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        place = left << half | right
        if place < count:
            return place


def _keys(seed: int, epoch: int) -> list[int]:
    first = _mixed(_mixed(seed) ^ epoch)
    return [_mixed(first + number) for number in range(1, _ROUNDS + 1)]


def _mixed(number: int) -> int:
    """SplitMix64."""
    number = (number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return number ^ (number >> 31)


def _mapped(path: Path, kind: "np.dtype[np.unsignedinteger]", count: int) -> NDArray[np.unsignedinteger]:
    size = path.stat().st_size
    if size != count * kind.itemsize:
        raise ValueError(f"{path} has {size} bytes, and not {count * kind.itemsize}: it is not as it was made")
    return np.memmap(path, kind, mode="r") if size else np.zeros(0, kind)
