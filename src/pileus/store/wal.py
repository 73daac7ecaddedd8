"""SQLite's write-ahead log, between the connections that use it.

After a sync that failed the kernel may hold what it should have brought to the disk for written, and the next sync says
nothing of it. Whoever then recovers the log from its file reads frames that a power cut would take away, and what is
written behind them goes with them. Two things see to it that nobody builds on such frames:

- While the store is open, a `Keeper` keeps the log's index in memory, in which a commit is only after its sync. So a
  connection that follows one that was given up does not recover the log, but writes over what is in doubt.
- Before the first owner of a new process builds on the log it found, it writes it anew as it reads (`secure`): what was
  recovered is then on the disk.
"""

import os
import sqlite3
import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")  # magic, format, page size, checkpoints, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page number, pages after a commit, two salts, two checksums
_SALTS, _FRAME_SALTS = slice(16, 24), slice(8, 16)  # where the salts are
_PIECE = 1024 * 1024  # bytes


def path_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


class Keeper:
    """A connection that only reads, and stays. While it is there no other is the last, so none that is given up writes
    the log into the database on its way out."""

    def __init__(self, database: Path, busy_s: float) -> None:
        uri = f"{database.as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)

    def attach(self) -> None:
        """Take part in the log, if the database has one."""
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def close(self) -> None:
        self._connection.close()


def secure(database: Path) -> None:
    """Write the log anew, if there is one. Only while nobody else writes. Raises `OSError`."""
    try:
        descriptor = os.open(path_of(database), os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        at = 0
        while piece := os.pread(descriptor, _PIECE, at):
            at += os.pwrite(descriptor, piece, at)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dropped_bytes(database: Path, frames: int) -> int:
    """How much of a log was not recovered: a transaction that was under way when its process ended or the power went,
    in part or whole. `frames` were recovered. Leftovers of an earlier use of the log do not count."""
    try:
        log = path_of(database).open("rb")
    except FileNotFoundError:
        return 0
    with log:
        head = log.read(_HEADER.size)
        size = os.fstat(log.fileno()).st_size
        if len(head) < _HEADER.size:
            return size
        page_bytes: int = _HEADER.unpack(head)[2]
        end = _HEADER.size + frames * (_FRAME.size + page_bytes)
        log.seek(end)
        frame = log.read(_FRAME.size)
        if len(frame) == _FRAME.size and frame[_FRAME_SALTS] != head[_SALTS]:
            return 0
        return max(0, size - end)
