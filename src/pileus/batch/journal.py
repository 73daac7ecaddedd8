"""The results of a batch's lines, in the job's folder.

Each lease appends to a segment of its own, and begins another after a write that failed. A checkpoint names every
segment with the length that counts and the hash of so much of it: a result is committed when the checkpoint that covers
it is. What a killed process wrote beyond that counts for nothing, and what an earlier holder still writes is in a
segment of its own that no checkpoint will name.

One record is `<place> <mark> <result as JSON>` and a line's end; the mark is `+` for an answer and `-` for a failure.
"""

import os
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from pileus.batch.files import write_all
from pileus.batch.records import Extent
from pileus.jobs.handler import JobFailed
from pileus.store.durable import sync_folder

_ANSWER: Final = b"+"
_FAILURE: Final = b"-"
_MARKS: Final = {_ANSWER: 1, _FAILURE: 2}
_NONE: Final = -1


class Result(Struct, frozen=True):
    """What came of a line: a line of the output file, or of the error file."""

    place: int
    answered: bool
    content: bytes  # with its end


class _Written(Struct, frozen=True):
    place: int
    mark: int
    offset: int
    length: int


class Journal:
    """For one lease. What it says of lines is what is committed. Methods that touch the disk may wait for it."""

    def __init__(self, folder: Path, fence: int, lines: int) -> None:
        self._folder = folder
        self._fence = fence
        self._number = 0  # of the own segment, in this lease
        self._own = f"results.{fence}.0"
        self._hash = sha256()
        self._length = 0
        self._pending: list[Result] = []
        self.pending_bytes = 0
        self._names: list[str] = []  # of segments
        self._segments = array("i", [_NONE]) * lines  # each line's place among the names
        self._offsets = array("Q", [0]) * lines
        self._lengths = array("I", [0]) * lines
        self._marks = bytearray(lines)
        self.answered = self.failed = 0

    @classmethod
    def recover(cls, folder: Path, fence: int, lines: int, segments: Sequence[Extent]) -> "Journal":
        """What those segments say. Raises `JobFailed` where they are not as they were committed."""
        journal = cls(folder, fence, lines)
        for segment in segments:
            journal._read_segment(segment)
        return journal

    def __contains__(self, place: int) -> bool:
        """Whether there is a committed result."""
        return self._marks[place] != 0

    @property
    def done(self) -> int:
        return self.answered + self.failed

    def add(self, result: Result) -> None:
        """Keep it for the next `write`."""
        self._pending.append(result)
        self.pending_bytes += len(result.content)

    def take(self) -> list[Result]:
        """All that was added since the last time, to be written."""
        results, self._pending = self._pending, []
        self.pending_bytes = 0
        return results

    def write(self, results: Iterable[Result]) -> "Group":
        """Append them, durably when this returns. They are not committed yet. After an `OSError` they may be written
        again: into another segment, for what the failed one holds beyond its committed bytes is not known."""
        parts: list[bytes] = []
        written: list[_Written] = []
        offset = self._length
        for result in results:
            mark = _ANSWER if result.answered else _FAILURE
            head = b"%d %b " % (result.place, mark)
            offset += len(head)
            written.append(_Written(result.place, _MARKS[mark], offset, len(result.content)))
            offset += len(result.content)
            parts += (head, result.content)
        data = b"".join(parts)
        try:
            self._append(data)
        except OSError:
            self._next_segment()
            raise
        self._length = offset
        self._hash.update(data)
        return Group(Extent(self._own, self._length, self._hash.hexdigest()), tuple(written))

    def committed(self, group: "Group") -> None:
        """The checkpoint that names the group's extent is durable."""
        for each in group.written:
            self._note(self._segment(self._own), each)

    def read(self, places: Iterable[int]) -> list[Result]:
        """Committed results, in that order; lines that have none are left out."""
        found = []
        descriptors: dict[int, int] = {}
        try:
            for place in places:
                if place not in self:
                    continue
                segment = self._segments[place]
                if segment not in descriptors:
                    descriptors[segment] = os.open(self._folder / self._names[segment], os.O_RDONLY)
                content = os.pread(descriptors[segment], self._lengths[place], self._offsets[place])
                found.append(Result(place, self._marks[place] == _MARKS[_ANSWER], content))
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        return found

    def size(self, place: int) -> int:
        """Bytes of its result; 0 where there is none."""
        return self._lengths[place]

    def _next_segment(self) -> None:
        """Leave the present one as it is, or remove it where nothing in it was written well."""
        if not self._length:
            with suppress(OSError):
                (self._folder / self._own).unlink()
        self._number += 1
        self._own = f"results.{self._fence}.{self._number}"
        self._hash = sha256()
        self._length = 0

    def _append(self, data: bytes) -> None:
        """The segment is made anew with the first: a file of that name can only be of a time that was undone."""
        flags = os.O_WRONLY | (os.O_APPEND if self._length else os.O_CREAT | os.O_TRUNC)
        descriptor = os.open(self._folder / self._own, flags, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not self._length:
            sync_folder(self._folder)

    def _read_segment(self, segment: Extent) -> None:
        if int(segment.name.split(".")[1]) >= self._fence:
            raise _corrupt(segment, "it is that of a lease that is still to come")
        place, digest, left = self._segment(segment.name), sha256(), segment.length
        try:
            with (self._folder / segment.name).open("rb") as file:
                while left and (record := file.readline(left)):
                    digest.update(record)
                    self._note(place, _parse(record, segment.length - left))
                    left -= len(record)
        except (OSError, ValueError, LookupError) as error:
            raise _corrupt(segment, str(error)) from None
        if left or digest.hexdigest() != segment.sha256:
            raise _corrupt(segment, "it is shorter" if left else "its hash is another")

    def _segment(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def _note(self, segment: int, written: _Written) -> None:
        place = written.place
        if self._marks[place]:
            raise ValueError(f"the line at {place} has two results")
        self._segments[place] = segment
        self._offsets[place] = written.offset
        self._lengths[place] = written.length
        self._marks[place] = written.mark
        self.answered += written.mark == _MARKS[_ANSWER]
        self.failed += written.mark == _MARKS[_FAILURE]


class Group(Struct, frozen=True):
    """Results that were written together; with a checkpoint of `extent` they are committed."""

    extent: Extent
    written: tuple[_Written, ...]


def _parse(record: bytes, offset: int) -> _Written:
    """Raises `ValueError` or `LookupError` for what is no record."""
    place, mark, content = record.split(b" ", 2)
    return _Written(int(place), _MARKS[mark], offset + len(record) - len(content), len(content))


def _corrupt(segment: Extent, reason: str) -> JobFailed:
    return JobFailed(
        f"The results that were committed in {segment.name} are not as they were written: {reason}.",
        code="results_corrupt",
    )
