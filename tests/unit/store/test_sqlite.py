"""Writes are whole, durable, grouped and bounded; reads go on whatever the writer meets."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from pileus.core.errors import NotFound, Unavailable
from pileus.core.records import AuditEvent
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable

audit = AuditTable()


def put(action: str, tx: Connection) -> None:
    audit.insert(tx, [AuditEvent(at=1.0, actor="a", tenant="t", action=action)])


def actions(store: SqliteStore) -> list[str]:
    return [row.action for _, row in reversed(store.read_blocking(lambda tx: audit.latest(tx, 10_000)))]


class Hold:
    """A piece of work that keeps the writer busy until it is let go."""

    def __init__(self, store: SqliteStore) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        self.done = store.submit(self._work)
        assert self._begun.wait(5)

    def _work(self, tx: Connection) -> None:
        self._begun.set()
        assert self._go.wait(5)

    def let_go(self) -> None:
        self._go.set()
        self.done.result(5)


def test_a_write_is_seen_by_the_next_read(store: SqliteStore) -> None:
    store.write_blocking(lambda tx: put("x", tx))
    assert actions(store) == ["x"]


async def test_the_event_loop_can_write_and_read(store: SqliteStore) -> None:
    await store.write(lambda tx: put("x", tx))
    [(_, event)] = await store.read(partial(audit.latest, limit=9))
    assert event.action == "x"


def test_an_acknowledged_write_survives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from pileus.core.records import AuditEvent\n"
        "from pileus.store.sqlite import SqliteStore; from pileus.store.tables import AuditTable\n"
        "event = AuditEvent(at=1.0, actor='a', tenant='t', action='x')\n"
        "SqliteStore.open(Path(sys.argv[1])).write_blocking(lambda tx: AuditTable().insert(tx, [event]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    reopened = SqliteStore.open(tmp_path)
    assert actions(reopened) == ["x"]
    reopened.close()


def test_the_writer_syncs_fully_and_readers_cannot_write(store: SqliteStore) -> None:
    def pragmas(tx: Connection) -> tuple[object, object]:
        return tx.scalar(text("PRAGMA journal_mode")), tx.scalar(text("PRAGMA synchronous"))

    assert store.write_blocking(pragmas) == ("wal", 2)
    with pytest.raises(Unavailable, match="readonly database"):
        store.read_blocking(lambda tx: put("x", tx))


def test_what_waits_together_is_committed_together_and_in_order(store: SqliteStore) -> None:
    hold = Hold(store)
    commits: list[object] = []

    def first(tx: Connection) -> None:
        event.listen(tx.engine, "commit", commits.append)

    writes = [store.submit(first), *(store.submit(partial(put, str(n))) for n in range(50))]
    hold.let_go()
    for write in writes:
        write.result(5)
    assert actions(store) == [str(n) for n in range(50)]
    assert len(commits) == 1


def test_work_that_fails_takes_nothing_of_its_neighbours_with_it(store: SqliteStore) -> None:
    def half(tx: Connection) -> None:
        put("half", tx)
        raise NotFound

    def clash(tx: Connection) -> None:
        tx.execute(text("INSERT INTO usage_marker (id, batch) VALUES (1, 'a'), (1, 'b')"))

    hold = Hold(store)
    before, failed = store.submit(lambda tx: put("before", tx)), store.submit(half)
    clashed, after = store.submit(clash), store.submit(lambda tx: put("after", tx))
    hold.let_go()
    assert isinstance(failed.exception(5), NotFound)
    assert isinstance(clashed.exception(5), IntegrityError)
    assert (before.result(5), after.result(5)) == (None, None)
    assert actions(store) == ["before", "after"]


def test_a_write_beyond_the_queue_is_refused_at_once(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, waiting_limit=2)
    hold = Hold(store)
    kept = [store.submit(lambda tx: put("x", tx)) for _ in range(2)]
    with pytest.raises(Unavailable, match="cannot keep up") as caught:
        store.submit(lambda tx: put("y", tx))
    assert caught.value.retry_after_s > 0
    hold.let_go()
    for write in kept:
        write.result(5)
    store.close()


def test_a_blocking_write_waits_no_longer_than_its_bound(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileus.store.sqlite.WRITE_WAIT_S", 0.01)
    hold = Hold(store)
    with pytest.raises(Unavailable, match="disk does not answer"):
        store.write_blocking(lambda tx: put("x", tx))
    hold.let_go()
    assert actions(store) == []


async def test_a_write_once_queued_happens_also_when_its_caller_leaves(store: SqliteStore) -> None:
    hold = Hold(store)
    caller = asyncio.ensure_future(store.write(lambda tx: put("x", tx)))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    hold.let_go()
    store.write_blocking(lambda tx: None)
    assert actions(store) == ["x"]


def test_a_store_locked_by_someone_else_answers_within_bounds_and_recovers(store: SqliteStore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_FILE, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="database is locked"):
            store.write_blocking(lambda tx: put("x", tx))
        assert actions(store) == []
    store.write_blocking(lambda tx: put("y", tx))
    assert actions(store) == ["y"]


def test_a_failing_disk_fails_the_whole_group_and_the_handle_is_given_up(store: SqliteStore) -> None:
    connections = []

    def broken(tx: Connection) -> None:
        connections.append(tx.connection.dbapi_connection)
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))

    hold = Hold(store)
    before, failing = store.submit(lambda tx: put("before", tx)), store.submit(broken)
    hold.let_go()
    for write in (before, failing):
        with pytest.raises(Unavailable, match="disk I/O error"):
            write.result(5)
    assert actions(store) == []
    after = store.write_blocking(lambda tx: tx.connection.dbapi_connection)
    assert after is not connections[0]


def test_a_full_database_refuses_writes_serves_reads_and_recovers(store: SqliteStore) -> None:
    def fill(tx: Connection) -> None:
        pages = tx.scalar(text("PRAGMA page_count"))
        tx.execute(text(f"PRAGMA max_page_count = {pages}"))
        for n in range(2000):
            put(f"big {n}", tx)

    store.write_blocking(lambda tx: put("x", tx))
    with pytest.raises(Unavailable, match="database or disk is full"):
        store.write_blocking(fill)
    assert actions(store) == ["x"]
    store.write_blocking(lambda tx: put("y", tx))
    assert actions(store) == ["x", "y"]


def test_closing_finishes_what_waits_and_then_refuses(store: SqliteStore) -> None:
    hold = Hold(store)
    writes = [store.submit(lambda tx: put("x", tx)) for _ in range(20)]
    closer = threading.Thread(target=store.close)
    closer.start()
    hold.let_go()
    closer.join(5)
    assert all(write.done() and write.exception() is None for write in writes)
    with pytest.raises(Unavailable, match="closed"):
        store.submit(lambda tx: None)


def test_after_a_clean_end_everything_is_in_the_one_file(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    store.write_blocking(lambda tx: put("x", tx))
    assert actions(store) == ["x"]
    store.close()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["owner.lock", DATABASE_FILE]
    reopened = SqliteStore.open(tmp_path)
    assert actions(reopened) == ["x"]
    reopened.close()


def test_a_folder_with_odd_characters_works(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "a b%20c?mode=ro#ü")
    store.write_blocking(lambda tx: put("x", tx))
    assert actions(store) == ["x"]
    store.close()
