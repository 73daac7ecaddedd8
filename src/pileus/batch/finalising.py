"""From the journal to the two files that a batch leaves: answers and failures, each in the order of the input."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from pileus.batch.answering import unfinished
from pileus.batch.ending import LineError
from pileus.batch.intake import Input
from pileus.batch.journal import Journal, Result
from pileus.batch.records import ResultFile
from pileus.core.errors import Unavailable
from pileus.store.blobs import BlobDraft, Blobs

_GROUP_BYTES: Final = 1 << 20  # read at a time
_GROUP_LINES: Final = 1024


class ResultFiles:
    """Writes them under keys that begin with `prefix`. What was not committed is gone when the block ends, and all of
    it where the block fails."""

    def __init__(self, blobs: Blobs, prefix: str) -> None:
        self._blobs = blobs
        self._prefix = prefix
        self._drafts: dict[str, BlobDraft] = {}
        self._committed: list[str] = []  # or nearly: a commit that fails may have left something

    async def __aenter__(self) -> "ResultFiles":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for draft in self._drafts.values():
            await draft.abort()
        if kind is not None:
            for name in self._committed:
                with suppress(Unavailable):  # the sweeper finds it when the batch has ended
                    await self._blobs.delete(self._key(name))

    async def write(self, name: str, content: bytes) -> None:
        """Append to the file of that name, which begins with this."""
        if content:
            draft = self._drafts.get(name)
            if draft is None:
                draft = self._drafts[name] = await self._blobs.create(self._key(name))
            await draft.write(content)

    async def commit(self) -> dict[str, ResultFile]:
        """Those that were begun, by name."""
        found = {}
        for name, draft in self._drafts.items():
            self._committed.append(name)
            info = await draft.commit()
            found[name] = ResultFile(info.key, info.bytes, info.sha256)
        return found

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


async def write_results(
    journal: Journal,
    lines: int,
    files: ResultFiles,
    *,
    batch_id: str,
    source: Input,
    why_unfinished: LineError,
    progress: Callable[[int], None],
) -> dict[str, ResultFile]:
    """The files `output` and `errors`, where there is something for them; each line is in one of them."""

    def failure(place: int, result: Result | None) -> bytes:
        if result is None:
            return unfinished(batch_id, place, source.line(place), why_unfinished)
        return b"" if result.answered else result.content

    def read(places: range) -> tuple[bytes, bytes]:
        found = {result.place: result for result in journal.read(places)}
        answers = b"".join([each.content for each in found.values() if each.answered])
        return answers, b"".join([failure(place, found.get(place)) for place in places])

    for places in _groups(journal, lines):
        answers, failures = await asyncio.to_thread(read, places)
        await files.write("output", answers)
        await files.write("errors", failures)
        progress(places.stop)
    return await files.commit()


def _groups(journal: Journal, lines: int) -> Iterator[range]:
    """All lines in pieces that fit into memory."""
    start, size = 0, 0
    for place in range(lines):
        size += journal.size(place)
        if size >= _GROUP_BYTES or place + 1 - start >= _GROUP_LINES:
            yield range(start, place + 1)
            start, size = place + 1, 0
    if start < lines:
        yield range(start, lines)
