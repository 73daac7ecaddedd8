"""The sweeper deletes what nobody refers to, and nothing else."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from pileus.core.errors import Unavailable
from pileus.core.ids import new_id
from pileus.files.service import FileService
from pileus.store import schema
from pileus.store.claimed_blobs import ClaimedBlobs
from pileus.store.file_table import insert_file
from pileus.store.local_blobs import LocalBlobs
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from stored import insert_job
from unit.files.conftest import LIMITS, announced, read, sent, stored

Kept = Callable[[], Awaitable[set[str]]]
DAY = 86_400.0


async def job(store: SqliteStore, *blobs: str, state: str = "running") -> None:
    await store.write(lambda tx: insert_job(tx, "job_1", state, ",".join(blobs)))


async def orphan(blobs: LocalBlobs, key: str) -> None:
    draft = await blobs.create(key)
    await draft.write(b"x")
    await draft.commit()


async def test_a_deleted_files_content_goes_with_the_next_round(files: FileService, kept: Kept) -> None:
    gone, stays = await stored(files), await stored(files)
    await files.delete("acme", gone.id)
    assert await kept() == {gone.blob, stays.blob}
    await files.sweep()
    assert await kept() == {stays.blob}


async def test_an_expired_files_content_goes_too(files: FileService, kept: Kept, clock: ManualClock) -> None:
    await stored(files, expires_s=3600)
    stays = await stored(files)
    clock.advance(3600)
    await files.sweep()
    assert await kept() == {stays.blob}


@pytest.mark.parametrize("state", ["queued", "running", "paused", "failed", "whatever comes later"])
async def test_what_an_unfinished_job_needs_stays_until_it_is_finished(
    files: FileService, store: SqliteStore, kept: Kept, clock: ManualClock, state: str
) -> None:
    file = await stored(files)
    await job(store, "files/other", file.blob, state=state)
    await files.delete("acme", file.id)
    clock.advance(2 * DAY)
    await files.sweep()
    assert await read(files, file) == b"content"
    await store.write(lambda tx: tx.execute(update(schema.job).values(state="succeeded")) and None)
    clock.advance(2 * DAY)
    await files.sweep()
    assert await kept() == set()


@pytest.mark.parametrize("state", ["succeeded", "cancelled", "expired"])
async def test_a_finished_job_needs_nothing(files: FileService, store: SqliteStore, kept: Kept, state: str) -> None:
    file = await stored(files)
    await job(store, file.blob, state=state)
    await files.delete("acme", file.id)
    await files.sweep()
    assert await kept() == set()


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
async def test_what_a_batch_writes_stays_until_it_has_ended_however_old_it_looks(
    files: FileService, store: SqliteStore, blobs: LocalBlobs, kept: Kept, clock: ManualClock, state: str
) -> None:
    """FAULTS 25: the clock jumps by days after the output is written and before its row is."""
    batch, gone = new_id("batch"), f"batches/{new_id('batch')}/1/output"
    keys = {f"batches/{batch}/1/output", f"batches/{batch}/2/errors"}
    await store.write(lambda tx: insert_job(tx, batch, state, ""))
    for key in (*keys, gone):
        await orphan(blobs, key)
    clock.set_wall(clock.wall() + 3 * DAY)
    await files.sweep()
    assert await kept() == keys
    await store.write(lambda tx: tx.execute(update(schema.job).values(state="failed")) and None)
    clock.advance(DAY)
    await files.sweep()
    assert await kept() == set()


async def test_what_a_crash_left_goes_after_a_day_and_not_before(
    files: FileService, blobs: LocalBlobs, kept: Kept, clock: ManualClock, tmp_path: Path
) -> None:
    """A content without a row, and a draft."""
    file = await stored(files)
    part = await sent(files, await announced(files, 3), b"abc")
    await orphan(blobs, f"files/{new_id('file', '-')}")
    draft = await blobs.create(f"files/{new_id('file', '-')}")
    await draft.write(bytes(1024 * 1024))
    everything = await kept()
    assert len(everything) == 4
    await files.sweep()
    assert await kept() == everything
    clock.advance(DAY - 600)
    await files.sweep()
    assert await kept() == everything - {part.blob}  # its upload has expired
    clock.advance(DAY)
    await files.sweep()
    assert await kept() == {file.blob}
    await draft.abort()


async def test_what_is_released_stays_while_somebody_else_refers_to_it(
    files: FileService, blobs: LocalBlobs, kept: Kept
) -> None:
    file = await stored(files)
    await orphan(blobs, "jobs/output")
    files.release(["jobs/output", file.blob, "never/was"])
    await files.sweep()
    assert await kept() == {file.blob}


async def test_nothing_is_deleted_while_deletions_are_held(files: FileService, kept: Kept) -> None:
    file = await stored(files)
    await files.delete("acme", file.id)
    async with files.hold_deletions():
        async with files.hold_deletions():
            await files.sweep()
        await files.sweep()
        assert await kept() == {file.blob}
    await files.sweep()
    assert await kept() == set()


async def test_a_hold_waits_for_a_deletion_that_is_at_work(
    files: FileService, blobs: LocalBlobs, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await files.delete("acme", (await stored(files)).id)
    at_work, go_on, real = asyncio.Event(), asyncio.Event(), blobs.delete

    async def slow(key: str) -> None:
        at_work.set()
        await go_on.wait()
        await real(key)

    monkeypatch.setattr(blobs, "delete", slow)
    sweeping = asyncio.create_task(files.sweep())
    await at_work.wait()
    hold = files.hold_deletions()
    entering = asyncio.create_task(hold.__aenter__())
    await asyncio.sleep(0)
    assert not entering.done()
    go_on.set()
    await entering
    before = await kept()
    assert len(before) == 2, "the one that was at work, and no more"
    await sweeping
    assert await kept() == before
    await hold.__aexit__(None, None, None)
    await files.sweep()
    assert await kept() == set()


async def test_a_round_that_fails_is_not_the_last(
    files: FileService, store: SqliteStore, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.delete("acme", (await stored(files)).id)
    failed, real = asyncio.Event(), store.write

    async def away(_: object) -> object:
        failed.set()
        raise Unavailable(retry_after_s=1)

    monkeypatch.setattr(store, "write", away)
    monkeypatch.setattr("pileus.files.sweeper.INTERVAL_S", 0.001)
    running = asyncio.create_task(files.run())
    await failed.wait()
    monkeypatch.setattr(store, "write", real)
    async with asyncio.timeout(10):
        while await kept():  # noqa: ASYNC110 - only the folder tells
            await asyncio.sleep(0.005)
    running.cancel()


async def test_thousands_of_contents_are_looked_at_in_groups(
    files: FileService,
    store: SqliteStore,
    blobs: LocalBlobs,
    kept: Kept,
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pileus.files.sweeper._KEYS_AT_ONCE", 7)
    monkeypatch.setattr("pileus.store.file_table._AT_ONCE", 3)
    stays = {(await stored(files)).blob for _ in range(20)}
    for _ in range(25):
        (tmp_path / "blobs" / "files" / new_id("file", "-")).write_bytes(b"")
    for path in (tmp_path / "blobs" / "files").iterdir():
        os.utime(path, (clock.wall() - 2 * DAY,) * 2)
    await files.sweep()
    assert await kept() == stays


async def test_what_pileus_did_not_make_is_never_touched(
    files: FileService, blobs: LocalBlobs, kept: Kept, clock: ManualClock
) -> None:
    """The place may turn out to have somebody else's data."""
    ours = [
        f"files/{new_id('file', '-')}",
        f"parts/{new_id('part')}",
        f"batches/{new_id('batch')}/3/output",
        f"batches/{new_id('batch')}/12/errors",
    ]
    theirs = {
        "owner",
        "important.csv",
        "files/report.pdf",
        f"files/{new_id('file', '-')}.bak",
        f"files/{new_id('file', '-')}/x",
        f"other/{new_id('file', '-')}",
        f"parts/{new_id('file', '-')}",
        f"batches/{new_id('batch')}/output",
        f"batches/{new_id('batch')}/3/input",
        "batches/2024/3/output",
    }
    for key in (*ours, *theirs):
        await orphan(blobs, key)
    clock.advance(2 * DAY)
    await files.sweep()
    assert await kept() == theirs


async def test_names_that_are_no_keys_are_passed_over(
    files: FileService, kept: Kept, clock: ManualClock, tmp_path: Path
) -> None:
    """What a file manager, or a network file system, leaves in the folder."""
    file = await stored(files)
    strange = [tmp_path / "blobs" / name for name in (".DS_Store", "files/.nfs0001", "files/a b", "files/ä")]
    for path in strange:
        path.write_bytes(b"x")
    clock.advance(2 * DAY)
    await files.sweep()
    assert await kept() == {file.blob}
    assert all(path.exists() for path in strange)


async def test_in_another_data_folders_place_nothing_is_deleted(
    blobs: LocalBlobs, kept: Kept, clock: ManualClock, tmp_path: Path
) -> None:
    """A restored copy knows the same contents, and forgets its rows of them; so does one that shares a bucket."""
    (tmp_path / "copy").mkdir()
    with closing(SqliteStore.open(tmp_path / "data")) as store, closing(SqliteStore.open(tmp_path / "copy")) as again:
        files = FileService(store, ClaimedBlobs(blobs, tmp_path / "data", clock), clock, LIMITS)
        copy = FileService(again, ClaimedBlobs(blobs, tmp_path / "copy", clock), clock, LIMITS)
        one, two = await stored(files, expires_s=3600), await stored(files)
        for file in (one, two):
            await again.write(lambda tx, file=file: insert_file(tx, file))
        await orphan(blobs, f"files/{new_id('file', '-')}")
        before = await kept()
        await copy.delete("acme", two.id)
        clock.advance(2 * DAY)
        for _ in range(2):
            await copy.sweep()
        assert await kept() == before
        with pytest.raises(Unavailable, match="another data folder"):
            await stored(copy)
        assert await read(copy, one) == b"content"
        await files.sweep()
        assert await kept() == {"owner", two.blob}, "the owner deletes as ever"
        await blobs.delete("owner")
        await copy.sweep()
        assert await kept() == {"owner"}, "whoever takes over finds what is left"
        clock.advance(60)
        with pytest.raises(Unavailable, match="another data folder"):
            await stored(files)
