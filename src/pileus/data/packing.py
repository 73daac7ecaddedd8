"""Clean documents to shards: one for each split of each piece."""

import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec
import numpy as np

from pileus.data.duplicates import KEPT, Fates
from pileus.data.heap import Heap
from pileus.data.keeping import keep
from pileus.data.shards import Shard
from pileus.data.split import SPLITS, split_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH: Final = 256  # documents that are tokenised together
NARROW: Final = 1 << 16  # the largest vocabulary whose tokens take two bytes

Packed = dict[str, Shard]  # by split


def pack(
    heap: Heap, number: int, fates: Fates, folder: Path, tokenizer: "Tokenizer", end: int, shares: tuple[float, float]
) -> Packed:
    """Write the shards of a piece; a split without documents has none. Durable when this returns. What was packed
    before is not packed again."""
    record = folder / f"packed-{number:05}.json"
    if record.exists():
        return msgspec.json.decode(record.read_bytes(), type=Packed)
    splits = split_of(heap.digests()[:, 1], *shares)
    packed: Packed = {}
    for place, split in enumerate(SPLITS):
        chosen = (fates == KEPT) & (splits == place)
        if chosen.any():
            packed[split] = _write(
                folder, f"{split}-{number:05}", _encoded(heap.texts(chosen), tokenizer, end), tokenizer
            )
    keep(_record(folder, number), msgspec.json.encode(packed))
    return packed


def packed_before(folder: Path, number: int) -> Packed | None:
    """The shards of a piece, if all of them are there."""
    record = _record(folder, number)
    return msgspec.json.decode(record.read_bytes(), type=Packed) if record.exists() else None


def _record(folder: Path, number: int) -> Path:
    return folder / f"packed-{number:05}.json"


def _write(folder: Path, name: str, documents: Iterator[list[int]], tokenizer: "Tokenizer") -> Shard:
    kind = np.dtype("<u2" if tokenizer.get_vocab_size() <= NARROW else "<u4")
    digest = sha256()
    ends: list[int] = []
    count = 0
    with (folder / f"{name}.tokens").open("wb") as tokens:
        for document in documents:
            content = np.array(document, kind).tobytes()
            tokens.write(content)
            digest.update(content)
            count += len(document)
            ends.append(count)
        _sync(tokens)
    with (folder / f"{name}.ends").open("wb") as file:
        file.write(np.array(ends, "<u8").tobytes())
        _sync(file)
    return Shard(name=name, tokens=count, documents=len(ends), sha256=digest.hexdigest())


def _encoded(texts: Iterator[str], tokenizer: "Tokenizer", end: int) -> Iterator[list[int]]:
    while batch := list(islice(texts, _BATCH)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield [*encoding.ids, end]


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
