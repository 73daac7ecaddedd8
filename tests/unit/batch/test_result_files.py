"""The files that a batch leaves."""

from itertools import pairwise
from pathlib import Path

import pytest

from pileus.batch.finalising import ResultFiles, write_results
from pileus.batch.journal import Journal, Result
from unit.batch.bench import MemoryBlobs

LINES = 3000


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
            journal_of(tmp_path, content), LINES, files, batch_id="batch_1", unfinished=None, progress=read.append
        )
    assert max(after - before for before, after in pairwise(read)) == most
    assert read[-1] == LINES
    assert {name: file.bytes for name, file in written.items()} == {
        "output": 2700 * len(content),
        "errors": 300 * len(content),
    }
    assert len(blobs.contents[written["output"].blob]) == written["output"].bytes


async def test_a_file_for_which_there_is_nothing_is_not_begun(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    async with ResultFiles(blobs, "batches/1/1") as files:
        journal = Journal(tmp_path, 1, LINES)
        written = await write_results(
            journal, LINES, files, batch_id="batch_1", unfinished=None, progress=lambda _: None
        )
    assert written == {}
    assert blobs.contents == {}
