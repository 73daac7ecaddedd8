"""The files that a batch leaves: both or none."""

import asyncio
from pathlib import Path

import pytest

from pileus.batch.finalising import ResultFiles
from pileus.core.errors import Unavailable
from pileus.store.local_blobs import LocalBlobs, LocalDraft


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
