"""The store on SQLite: one file in the data folder.

WAL with `synchronous=FULL`: a commit that was acknowledged survives a power cut. One process owns the folder
(`OwnerLock`), one thread in it writes (`Writer`), and readers open the file read-only: with two connections that write
or checkpoint at once, SQLite before 3.51.3 can corrupt a WAL database. The driver's own handling of transactions is
off; each begins with `BEGIN IMMEDIATE` (a reader's with `BEGIN`), so that DDL is transactional as well.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, Pool, QueuePool

from pileus.core.errors import OperatorError, Unavailable
from pileus.observability.events import get_log
from pileus.store import wal
from pileus.store.migrate import migrate
from pileus.store.owner import OwnerLock, cannot_write
from pileus.store.port import Result, Work
from pileus.store.writer import RETRY_AFTER_S, Writer, unavailable

log = get_log(__name__)

DATABASE_FILE = "pileus.db"
BUSY_S = 2.0  # how long to wait for someone else's lock
WAITING_LIMIT = 4096  # pieces of work
WRITE_WAIT_S = 10.0  # a blocking write waits no longer, whatever the disk does


class SqliteStore:
    """See `store.port.Store`."""

    def __init__(self, lock: OwnerLock, path: Path, busy_s: float, waiting_limit: int) -> None:
        """Raises `OSError`, `sqlite3.Error` and `DBAPIError`."""
        self._closed = False
        self._lock = lock
        self._keeper = wal.Keeper(path, busy_s)
        self._readers = _engine(f"{path.as_uri()}?mode=ro", "BEGIN", busy_s, QueuePool)
        self._writing = _engine(str(path), "BEGIN IMMEDIATE", busy_s, NullPool)
        try:
            self.dropped_bytes = _prepare(path, self._writing, self._keeper)  # of what an unclean end left in part
        except BaseException:
            self._keeper.close()
            raise
        self._writer = Writer(self._writing.connect, waiting_limit)

    @classmethod
    def open(cls, data_dir: Path, *, busy_s: float = BUSY_S, waiting_limit: int = WAITING_LIMIT) -> "SqliteStore":
        """Own the folder, bring the schema up to date, start the writer.

        Raises `OperatorError`: another process owns the folder, it cannot be written to, the disk is full, or the
        database is damaged or from a newer Pileus.
        """
        lock = OwnerLock.take(data_dir)
        path = data_dir.resolve() / DATABASE_FILE
        try:
            with _told_to_operator(path):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                return cls(lock, path, busy_s, waiting_limit)
        except BaseException:
            lock.release()
            raise

    def submit(self, work: Work[Result]) -> Future[Result]:
        return self._writer.submit(work)

    async def write(self, work: Work[Result]) -> Result:
        return await asyncio.shield(asyncio.wrap_future(self._writer.submit(work)))

    def write_blocking(self, work: Work[Result]) -> Result:
        future = self._writer.submit(work)
        try:
            return future.result(WRITE_WAIT_S)
        except FutureTimeoutError:
            future.cancel()
            raise Unavailable("The disk does not answer.", retry_after_s=RETRY_AFTER_S) from None

    async def read(self, work: Work[Result]) -> Result:
        return await asyncio.to_thread(self.read_blocking, work)

    def read_blocking(self, work: Work[Result]) -> Result:
        try:
            with self._readers.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            raise unavailable("read", error) from error

    def close(self) -> None:
        """Finish the writes that wait, then give the folder up. Harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._readers.dispose()
        with suppress(DBAPIError), self._writing.connect():  # the last to leave writes the log into the database
            self._keeper.close()
        self._keeper.close()
        self._lock.release()


def look(data_dir: Path, work: Work[Result]) -> Result:
    """Read what is on record, whoever owns the folder. Raises `OperatorError`.

    The database is not written to, so this works where the disk is full. Without a log it is read as it lies; a log is
    read through its index, which is there while a process owns the folder, and is made anew after one that was killed.
    """
    path = data_dir.resolve() / DATABASE_FILE
    how = "mode=ro" if wal.path_of(path).exists() else "mode=ro&immutable=1"
    engine = _engine(f"{path.as_uri()}?{how}", "BEGIN", BUSY_S, NullPool)
    with _told_to_operator(path), engine.begin() as connection:
        return work(connection)


@contextmanager
def _told_to_operator(path: Path) -> Iterator[None]:
    """What the disk or the database says, in one line."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    except (DBAPIError, sqlite3.Error) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise OperatorError(
            f"cannot open {path}: {reason}; free space or restore a backup, or use another folder with --data"
        ) from None


def _prepare(path: Path, writing: Engine, keeper: wal.Keeper) -> int:
    """Recover what the last owner left and migrate it; how many bytes of an unfinished write were dropped."""
    with writing.connect() as connection:  # a first start that was cut off is rolled back here
        keeper.attach()
        with connection.begin():  # so that nobody else writes
            wal.secure(path)
        dropped = _recover(connection, path)
        migrate(connection)
        keeper.attach()  # a database that is new has a log only now
        return dropped


def _recover(connection: Connection, path: Path) -> int:
    """The driver's connection has no transaction open here, so that the log can be taken over into the database."""
    driver = connection.connection.cursor()
    try:
        _, frames, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    finally:
        driver.close()
    dropped = wal.dropped_bytes(path, max(frames, 0))
    if dropped:
        log.warning("store.unfinished_write_dropped", bytes=dropped)
    return dropped


def _engine(database: str, begin: str, busy_s: float, pool: type[Pool]) -> Engine:
    """An engine whose connections carry the settings above. `database` is a path or a `file:` URI."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            database, timeout=busy_s, isolation_level=None, check_same_thread=False, uri=database.startswith("file:")
        )
        try:
            if "mode=ro" not in database:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=pool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> Any:
        connection.exec_driver_sql(begin)

    return engine
