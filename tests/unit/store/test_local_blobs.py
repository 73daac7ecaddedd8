"""What only a folder does."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pileus.core.errors import Unavailable
from pileus.store.local_blobs import LocalBlobs

MIB = 1024 * 1024


async def test_an_abort_waits_for_the_write_that_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file descriptor must not be closed, and be another file's, while a thread still writes to it."""
    reached, go_on, real = threading.Event(), threading.Event(), os.write

    def slow(descriptor: int, data: Any) -> int:
        reached.set()
        go_on.wait(10)
        return real(descriptor, data)

    monkeypatch.setattr("pileus.store.local_blobs.os.write", slow)
    draft = await LocalBlobs(tmp_path).create("x")
    writing = asyncio.create_task(draft.write(bytes(MIB)))
    await asyncio.to_thread(reached.wait, 10)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    aborting = asyncio.create_task(draft.abort())
    await asyncio.wait([aborting], timeout=0.05)
    assert not aborting.done()
    go_on.set()
    await aborting
    assert [path.name for path in tmp_path.iterdir()] == [".drafts"]  # noqa: ASYNC240
    assert list((tmp_path / ".drafts").iterdir()) == []


async def test_a_commit_that_nobody_waits_for_any_more_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever left cannot know the key, so it is taken back, also when it was just published."""
    reached, go_on, real = threading.Event(), threading.Event(), Path.rename

    def slow(draft: Path, target: Path) -> Path:
        reached.set()
        go_on.wait(10)
        return real(draft, target)

    monkeypatch.setattr(Path, "rename", slow)
    blobs = LocalBlobs(tmp_path)
    draft = await blobs.create("files/x")
    committing = asyncio.create_task(draft.commit())
    await asyncio.to_thread(reached.wait, 10)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    aborting = asyncio.create_task(draft.abort())
    go_on.set()
    await aborting
    assert [key async for key, _ in blobs.keys()] == []  # noqa: SIM118


async def test_old_drafts_are_discarded_and_young_ones_are_not(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await blobs.discard_drafts(1e12)
    for _ in range(2):
        await (await blobs.create("x")).write(bytes(MIB))
    old, young = sorted((tmp_path / ".drafts").iterdir())
    os.utime(old, (1000, 1000))
    await blobs.discard_drafts(1001)
    assert list((tmp_path / ".drafts").iterdir()) == [young]


async def test_folders_that_are_empty_go_with_their_last_content(tmp_path: Path) -> None:
    root = tmp_path / "blobs"
    blobs = LocalBlobs(root)
    for key in ("batches/a/1/output", "batches/a/1/errors", "batches/b/1/output", "files/x"):
        await (await blobs.create(key)).commit()
    await blobs.delete("batches/a/1/output")
    assert (root / "batches/a/1/errors").exists()
    await blobs.delete("batches/a/1/errors")
    assert sorted(path.name for path in (root / "batches").iterdir()) == ["b"]
    await blobs.delete("batches/b/1/output")
    await blobs.delete("files/x")
    await blobs.delete("files/x")
    assert sorted(path.name for path in root.iterdir()) == [".drafts", "batches", "files"]
    assert list((root / "batches").iterdir()) == []


async def test_a_content_finds_its_folder_though_deletions_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, real, removed = LocalBlobs(tmp_path), Path.rename, 0

    def late(draft: Path, target: Path) -> Path:
        nonlocal removed
        if removed < 3:
            removed += 1
            target.parent.rmdir()
        return real(draft, target)

    monkeypatch.setattr(Path, "rename", late)
    await (await blobs.create("files/x")).commit()
    assert [key async for key, _ in blobs.keys()] == ["files/x"]  # noqa: SIM118
    assert removed == 3


async def test_a_draft_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    draft = await blobs.create("files/x")
    await draft.write(bytes(MIB))
    await blobs.discard_drafts(1e12)
    with pytest.raises(Unavailable, match="No such file"):
        await draft.commit()
