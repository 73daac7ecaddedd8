"""What an unclean end leaves in the write-ahead log: told where it is an unfinished write, and nothing else."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from pileus.core.records import AuditEvent
from pileus.store import wal
from pileus.store.sqlite import DATABASE_FILE, SqliteStore
from pileus.store.tables import AuditTable


def put(target: str, tx: Connection) -> None:
    AuditTable().insert(tx, [AuditEvent(at=1.0, actor="a", tenant="t", action="x", target=target)])


def as_crashed(store: SqliteStore, folder: Path, again: Path) -> Path:
    """What is in the folder now, without its owner; the path of the log."""
    again.mkdir()
    for name in (DATABASE_FILE, f"{DATABASE_FILE}-wal"):
        shutil.copy(folder / name, again)
    store.close()
    return wal.path_of(again / DATABASE_FILE)


def dropped(folder: Path) -> int:
    with capture_logs() as logs:
        store = SqliteStore.open(folder)
    store.close()
    told = [event["bytes"] for event in logs if event["event"] == "store.unfinished_write_dropped"]
    assert told == ([store.dropped_bytes] if store.dropped_bytes else [])
    return store.dropped_bytes


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of a folder whose owner was killed after a whole write."""
    store = SqliteStore.open(tmp_path / "data")
    store.write_blocking(partial(put, "x"))
    return as_crashed(store, tmp_path / "data", tmp_path / "again")


def test_a_whole_log_tells_nothing(log: Path) -> None:
    assert dropped(log.parent) == 0
    assert dropped(log.parent) == 0, "after a clean end"


@pytest.mark.parametrize("bytes_", [1, 23, 24, 25, 2000, 4119])
def test_a_torn_write_is_told(log: Path, bytes_: int) -> None:
    content = log.read_bytes()
    frame = content[-4120:]
    log.write_bytes(content + frame[:bytes_])
    assert dropped(log.parent) == bytes_


def test_a_transaction_without_its_end_is_told(log: Path) -> None:
    content = log.read_bytes()
    ends = [at for at in range(32, len(content), 4120) if content[at + 4 : at + 8] != bytes(4)]  # frames that commit
    log.write_bytes(content[:-4120])
    assert ends[-1] == len(content) - 4120
    assert dropped(log.parent) == ends[-1] - (ends[-2] + 4120)


def test_a_header_cut_short_is_told(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:20])
    assert dropped(log.parent) == 20


def test_leftovers_of_an_earlier_use_of_the_log_are_not_told(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "data")
    store.write_blocking(lambda tx: tx.exec_driver_sql("PRAGMA wal_autocheckpoint = 5").fetchall())
    for n in range(4):
        store.write_blocking(partial(put, str(n) * 9000))
    long = (tmp_path / "data" / f"{DATABASE_FILE}-wal").stat().st_size
    store.write_blocking(partial(put, "short"))
    log = as_crashed(store, tmp_path / "data", tmp_path / "again")
    assert log.stat().st_size == long, "the log was not used again"
    assert dropped(log.parent) == 0


def test_the_log_reads_the_same_after_it_was_written_anew(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "_PIECE", 1000)
    before = log.read_bytes()
    wal.secure(log.parent / DATABASE_FILE)
    assert log.read_bytes() == before


def test_no_log_is_no_work(tmp_path: Path) -> None:
    wal.secure(tmp_path / DATABASE_FILE)
    assert wal.dropped_bytes(tmp_path / DATABASE_FILE, 0) == 0
    assert not list(tmp_path.iterdir())
