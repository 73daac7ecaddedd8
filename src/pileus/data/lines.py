"""Lines of a file, or of a slice of it, in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pileus.data.inputs import GZIP, Slice

MAX_RECORD_BYTES: Final = 16 << 20
_COUNT_BYTES: Final = 1 << 20
BROKEN: Final = (OSError, EOFError, zlib.error)  # what reading a damaged file raises


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Unpacked, where its name says that it is packed."""
    with gzip.open(path, "rb") if path.lower().endswith(GZIP) else Path(path).open("rb") as file:
        yield file  # type: ignore[misc]


def lines(part: Slice) -> Iterator[tuple[int, bytes]]:
    """Offset and line, with its end, of those lines that begin within the slice. A line of more than
    `MAX_RECORD_BYTES` is empty here."""
    with opened(part.path) as file:
        offset = part.begin
        if offset:
            file.seek(offset - 1)
            offset += _skip(file) - 1  # the line that began before is the slice's before
        while part.whole or offset < part.end:
            line = file.readline(MAX_RECORD_BYTES + 1)
            if not line:
                return
            size = len(line)
            if size > MAX_RECORD_BYTES and not line.endswith(b"\n"):
                size += _skip(file)
                line = b""
            yield offset, line
            offset += size


def line_number(part: Slice, offset: int) -> int:
    """Of the line that begins there, from 1. Counts all before: only for what is told to people."""
    count, left = 1, offset
    with opened(part.path) as file:
        while left and (block := file.read(min(left, _COUNT_BYTES))):
            count += block.count(b"\n")
            left -= len(block)
    return count


def _skip(file: IO[bytes]) -> int:
    """The rest of a line."""
    skipped = 0
    while block := file.readline(_COUNT_BYTES):
        skipped += len(block)
        if block.endswith(b"\n"):
            break
    return skipped
