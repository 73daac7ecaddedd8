"""FAULTS 18, 21 and 22, on the real thing: a small file system, a held lock, a torn write-ahead log."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from pileus.core.errors import OperatorError, Unavailable
from pileus.core.records import AuditEvent
from pileus.security.service import Security
from pileus.store.sqlite import DATABASE_FILE, WRITE_WAIT_S, SqliteStore
from pileus.store.tables import AuditTable
from pileus.testing.clock import ManualClock

audit = AuditTable()


def put(target: str, tx: object) -> None:
    event = AuditEvent(at=1.0, actor="a", tenant="t", action="x", target=target)
    audit.insert(tx, [event])  # type: ignore[arg-type]


def fill(disk: Path) -> Path:
    ball = disk / "ballast"
    with ball.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ball


@pytest.mark.fault(18, "tmpfs of 1 MiB, full", "writes are refused, reads work, recovers by itself")
async def test_18_a_full_disk_refuses_writes_keeps_serving_and_recovers_by_itself(small_disk: Path) -> None:
    store = SqliteStore.open(small_disk / "data")
    security = Security.open(small_disk / "data", store, ManualClock())
    key, secret = await security.keys.create("a", "admin")
    ballast = fill(small_disk)

    with pytest.raises(Unavailable, match="full") as refused:
        await store.write(partial(put, "y" * 500_000))
    assert refused.value.retry_after_s > 0
    with pytest.raises(Unavailable):
        await security.keys.create("b" * 128, "admin")
    assert security.keys.authenticate(secret).key_id == key.id
    assert len(await security.audit.latest(10_000)) >= 1

    ballast.unlink()
    made, another = await security.keys.create("c", "user")
    assert security.keys.authenticate(another).key_id == made.id
    store.close()


@pytest.mark.fault(18, "a start on a full tmpfs", "refused in one line")
def test_18_a_start_on_a_full_disk_is_refused_in_one_line(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(OperatorError, match="--data") as refused:
        SqliteStore.open(small_disk / "data")
    assert "\n" not in refused.value.message


async def longest_pause_s(work: asyncio.Future[None]) -> float:
    """How long the event loop was away at most while that work was done."""
    longest, last = 0.0, time.monotonic()
    while not work.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


@pytest.mark.fault(21, "a held transaction", "a bounded wait, then refused; the event loop goes on")
async def test_21_a_locked_store_does_not_block_the_event_loop(tmp_path: Path, measured: Callable[[str], None]) -> None:
    store = SqliteStore.open(tmp_path, busy_s=1.0)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        begun_s = time.monotonic()
        blocked = asyncio.ensure_future(store.write(partial(put, "x")))
        pause_s = await longest_pause_s(blocked)
        took_s = time.monotonic() - begun_s
        measured(f"refused after {took_s:.2f} s; the event loop was away for at most {pause_s * 1e3:.0f} ms")
        with pytest.raises(Unavailable, match="locked"):
            await blocked
        assert 1.0 <= took_s < WRITE_WAIT_S
        assert pause_s < 0.5, "the event loop waited with it"
    await store.write(partial(put, "y"))
    assert [event.target for _, event in await store.read(partial(audit.latest, limit=9))] == ["y"]
    store.close()


@pytest.mark.fault(22, "the log cut at many of its bytes", "torn tail dropped and told; what was acknowledged is there")
def test_22_a_power_cut_at_any_byte_of_the_log_loses_nothing_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    """The log after each acknowledged write has a length; a cut beyond it must leave that write in place."""
    source = tmp_path / "source"
    store = SqliteStore.open(source)
    log = source / f"{DATABASE_FILE}-wal"
    lengths = []
    for n in range(8):
        store.write_blocking(partial(put, str(n)))
        lengths.append(log.stat().st_size)
    before = {name: (source / name).read_bytes() for name in (DATABASE_FILE, log.name)}
    store.close()

    whole = before[log.name]
    for cut in sorted({*range(lengths[0], len(whole), 1999), *lengths, *(length - 1 for length in lengths[1:])}):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / DATABASE_FILE).write_bytes(before[DATABASE_FILE])
        (folder / log.name).write_bytes(whole[:cut])
        reopened = SqliteStore.open(folder)
        found = [event.target for _, event in reversed(reopened.read_blocking(partial(audit.latest, limit=100)))]
        reopened.close()
        acknowledged = sum(length <= cut for length in lengths)
        assert found == [str(n) for n in range(acknowledged)]
        assert reopened.dropped_bytes == cut - lengths[acknowledged - 1]
