"""The files that a batch leaves: both or none."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from pileus.batch.ending import CANCELLED
from pileus.batch.finalising import ResultFiles, write_results
from pileus.batch.intake import Input
from pileus.batch.journal import Journal, Result
from pileus.core.errors import Unavailable
from pileus.store.local_blobs import LocalBlobs, LocalDraft
from unit.batch.bench import MemoryBlobs

LINES = 3000


async def kept(blobs: LocalBlobs) -> set[str]:
    return {key async for key, _ in blobs.keys()}  # noqa: SIM118 - no mapping


@pytest.mark.parametrize("error", [Unavailable(retry_after_s=1), asyncio.CancelledError()])
async def test_where_one_file_cannot_be_committed_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A full disk, while a batch tries again and again to end."""
    blobs, real = LocalBlobs(tmp_path), LocalDraft.commit

    async def second_fails(draft: LocalDraft) -> object:
        if await kept(blobs) == {"batches/batch_1/1/output"}:
            raise error
        return await real(draft)

    monkeypatch.setattr(LocalDraft, "commit", second_fails)

    async def leave() -> None:
        async with ResultFiles(blobs, "batches/batch_1/1") as files:
            await files.write("output", b"a")
            await files.write("errors", b"b")
            await files.commit()

    with pytest.raises(type(error)):
        await leave()
    assert await kept(blobs) == set()
    assert list((tmp_path / ".drafts").iterdir()) == []


async def test_what_is_committed_stays(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    async with ResultFiles(blobs, "batches/batch_1/1") as files:
        await files.write("output", b"a")
        await files.write("errors", b"b")
        found = await files.commit()
    assert await kept(blobs) == {file.blob for file in found.values()}
    assert len(found) == 2


def journal_of(folder: Path, content: bytes) -> Journal:
    """Every line answered, the last first; but for every tenth, which failed."""
    journal = Journal(folder, 1, LINES)
    group = journal.write([Result(place, place % 10 != 0, content) for place in range(LINES)][::-1])
    journal.committed(group)
    return journal


@pytest.mark.parametrize(("content", "most"), [(b"{}\n", 1024), (b"x" * 20_000 + b"\n", 53)])
async def test_results_are_read_in_groups_that_fit_into_memory(tmp_path: Path, content: bytes, most: int) -> None:
    blobs, read = MemoryBlobs(), [0]
    async with ResultFiles(blobs, "batches/1/1") as files:
        written = await write_results(
            journal_of(tmp_path, content),
            LINES,
            files,
            batch_id="batch_1",
            source=cast(Input, None),  # every line has a result
            why_unfinished=CANCELLED,
            progress=read.append,
        )
    assert max(after - before for before, after in pairwise(read)) == most
    assert read[-1] == LINES
    assert {name: file.bytes for name, file in written.items()} == {
        "output": 2700 * len(content),
        "errors": 300 * len(content),
    }
    assert len(blobs.contents[written["output"].blob]) == written["output"].bytes
