"""A file of lines as it streams in. Memory is bounded by the longest line allowed."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Line(Struct, frozen=True):
    """A line that is not blank, without its end."""

    number: int  # from 1, as editors count
    offset: int  # in the file, in bytes
    length: int
    content: bytes | None  # None where it is longer than allowed


class LineSplitter:
    """Cuts pieces of a file into lines. They end with LF or CRLF, the last one also with the file; blank lines are
    passed over, and so is a byte-order mark."""

    def __init__(self, longest: int) -> None:
        self._longest = longest  # bytes
        self._number = 0
        self._begin = 0  # of the line that is being read
        self._length = 0  # of what was read of it
        self._content = bytearray()

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end in it."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._append(piece[start:end])
            yield from self._close(ends=1)
            start = end + 1
        self._append(piece[start:])

    def finish(self) -> Iterator[Line]:
        """What is left at the end of the file."""
        if self._length:
            yield from self._close(ends=0)

    def _append(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= self._longest + len(_BYTE_ORDER_MARK) + 1:
            self._content += part
        else:
            self._content.clear()

    def _close(self, ends: int) -> Iterator[Line]:
        self._number += 1
        offset, length, content = self._begin, self._length, bytes(self._content)
        self._begin += length + ends
        self._length = 0
        self._content.clear()
        if length != len(content):
            yield Line(self._number, offset, length, None)
            return
        if offset == 0 and content.startswith(_BYTE_ORDER_MARK):
            offset, content = len(_BYTE_ORDER_MARK), content[len(_BYTE_ORDER_MARK) :]
        content = content.removesuffix(b"\r")
        if content.strip():
            yield Line(self._number, offset, len(content), content if len(content) <= self._longest else None)
