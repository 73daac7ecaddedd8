"""Clean documents of one piece on the disk: texts one after the other, and what is known of each as columns of
numbers."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.data.cleaning import Account, Clean
from pileus.data.keeping import keep
from pileus.data.minhash import BANDS, FUNCTIONS, Signature, bands, signature
from pileus.data.words import Numbers

_BATCH: Final = 256
_SIGNATURE_BYTES: Final = 4 * FUNCTIONS
_NUMBER_BYTES: Final = 8


class _Ended(Struct, frozen=True):
    """The last that is written: with it, all is there."""

    documents: int
    account: Account


class Heap:
    """Of the piece with that number. What a killed writer left is written over."""

    def __init__(self, folder: Path, number: int, *, near: bool) -> None:
        self._path = folder / f"{number:06}"
        self._near = near

    @property
    def is_there(self) -> bool:
        return self._file("json").exists()

    def write(self, documents: Iterable[Clean], account: Account) -> None:
        """All of them, and then the account, which whoever gives the documents fills. Durable when this returns."""
        self._path.parent.mkdir(exist_ok=True)
        files = [self._file(name).open("wb") for name in ("texts", "ends", "digests", "signatures")]
        found: list[Numbers] = []
        count = 0
        try:
            for batch in _batches(documents):
                count += len(batch)
                self._append(batch, files)
                if self._near:
                    signatures = np.stack([signature(each.words) for each in batch])
                    files[3].write(signatures.tobytes())
                    found.append(bands(signatures))
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        finally:
            for file in files:
                file.close()
        columns = np.concatenate(found) if found else np.zeros((0, BANDS), np.uint64)
        keep(self._file("bands"), np.ascontiguousarray(columns.T).tobytes())
        keep(self._file("json"), msgspec.json.encode(_Ended(count, account)))

    def __len__(self) -> int:
        return self._ended.documents

    @property
    def account(self) -> Account:
        return self._ended.account

    def digests(self) -> Numbers:
        """[documents, 2]"""
        return np.fromfile(self._file("digests"), ">u8").astype(np.uint64).reshape(-1, 2)

    def band(self, number: int) -> Numbers:
        """[documents]"""
        return np.fromfile(self._file("bands"), np.uint64, len(self), offset=number * len(self) * _NUMBER_BYTES)

    def signature(self, place: int) -> Signature:
        """[FUNCTIONS]"""
        return np.fromfile(self._file("signatures"), np.uint32, FUNCTIONS, offset=place * _SIGNATURE_BYTES)

    def text(self, place: int) -> str:
        offset = max(place - 1, 0) * _NUMBER_BYTES
        ends = np.fromfile(self._file("ends"), np.int64, min(place + 1, 2), offset=offset).tolist()
        begin, end = (0, *ends)[-2:]
        with self._file("texts").open("rb") as texts:
            texts.seek(begin)
            return texts.read(end - begin).decode()

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """Of those documents, in order."""
        ends = np.fromfile(self._file("ends"), np.int64)
        with self._file("texts").open("rb") as texts:
            for place in np.flatnonzero(chosen).tolist():
                begin = int(ends[place - 1]) if place else 0
                texts.seek(begin)
                yield texts.read(int(ends[place]) - begin).decode()

    def forget_texts(self) -> None:
        """Where only what is known of them is wanted."""
        self._file("texts").unlink()

    @cached_property
    def _ended(self) -> _Ended:
        return msgspec.json.decode(self._file("json").read_bytes(), type=_Ended)

    def _append(self, batch: list[Clean], files: Sequence[IO[bytes]]) -> None:
        texts, ends, digests, _ = files
        begin = texts.tell()
        contents = [each.text.encode(errors="replace") for each in batch]
        texts.write(b"".join(contents))
        ends.write((begin + np.cumsum(list(map(len, contents)), dtype=np.int64)).tobytes())
        digests.write(b"".join(each.digest for each in batch))

    def _file(self, kind: str) -> Path:
        return self._path.with_suffix(f".{kind}")


def _batches(documents: Iterable[Clean]) -> Iterator[list[Clean]]:
    rest = iter(documents)
    while batch := list(islice(rest, _BATCH)):
        yield batch
