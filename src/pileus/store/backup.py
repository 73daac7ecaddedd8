"""A backup of a data folder, made while its owner goes on writing.

First a consistent copy of the database, then the files that its rows name. What is written later is not in it; what
the rows name is, because `hold` keeps contents from being deleted meanwhile. Logs of running jobs are append-only, and
a job goes on from its last checkpoint in the database: so whatever was appended since does no harm.

The copy is made by a connection that only reads, in one step: the writer goes on, and the one-writer rule holds.
"""

import asyncio
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import OperatorError, Unavailable
from pileus.store.archive import PIECE, Manifest, Sealed, header, padding, seal
from pileus.store.owner import OwnerLock

DATABASE_FILE = "pileus.db"
BLOBS_FOLDER = "blobs"
JOBS_FOLDER = "jobs"
RETRY_AFTER_S = 30.0

_WORK_PREFIX = "backup."  # of a folder in the data folder, while the copy of the database is made
_BUSY_S = 2.0

Hold = Callable[[], AbstractAsyncContextManager[None]]


class Source(Struct, frozen=True, kw_only=True):
    """What is backed up."""

    data_dir: Path
    version: str  # of this Pileus
    files: tuple[str, ...]  # beside the database; one that is missing makes a backup impossible
    blobs: str | None = None  # where contents are, if not in the data folder
    models: str  # folder; included when it is asked for


class Rows(Struct, frozen=True):
    """What the database's copy names."""

    schema: str
    blobs: dict[str, str]  # key -> SHA-256 where it is known, or ""
    jobs: tuple[str, ...]  # ids


class Backup:
    """An archive in the making. `total` is about how many bytes it will have."""

    def __init__(self, source: Source, database: BinaryIO, rows: Rows, made_at: float, *, models: bool) -> None:
        self._source = source
        self._database = database
        self._rows = rows
        self._made_at = made_at
        self._sealed: list[Sealed] = []
        self._absent: list[str] = []
        self._damaged: list[str] = []
        self._folders = [Path(JOBS_FOLDER, job) for job in rows.jobs] + ([Path(source.models)] if models else [])
        self.total = os.fstat(database.fileno()).st_size + sum(map(self._size, self._named()))

    def close(self) -> None:
        """Give the copy of the database up."""
        self._database.close()

    def pieces(self) -> Iterator[bytes]:
        """The archive's bytes, in pieces of about a megabyte. Reads files: for a thread."""
        yield from self._member(DATABASE_FILE, self._database)
        for name in self._source.files:
            with (self._source.data_dir / name).open("rb") as file:
                yield from self._member(name, file)
        for key in self._rows.blobs:
            yield from self._blob(key)
        for name in self._below_folders():
            with suppress(FileNotFoundError), (self._source.data_dir / name).open("rb") as file:
                yield from self._member(name, file)
        yield from seal(
            Manifest(
                pileus=self._source.version,
                schema=self._rows.schema,
                made_at=self._made_at,
                blobs=self._source.blobs,
                absent=tuple(self._absent),
                damaged=tuple(self._damaged),
                members=tuple(self._sealed),
            )
        )

    def _blob(self, key: str) -> Iterator[bytes]:
        try:
            file = (self._source.data_dir / BLOBS_FOLDER / key).open("rb")
        except FileNotFoundError:
            self._absent.append(key)
            return
        with file:
            yield from self._member(f"{BLOBS_FOLDER}/{key}", file)
        if self._rows.blobs[key] not in ("", self._sealed[-1].sha256):
            self._damaged.append(key)

    def _member(self, name: str, file: BinaryIO) -> Iterator[bytes]:
        """As many bytes as the file has now; it may grow."""
        size = left = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256()
        yield header(name, size, self._made_at)
        while left:
            piece = file.read(min(PIECE, left))
            if not piece:
                raise OperatorError(f"{name} became shorter while it was copied; make the backup again")
            left -= len(piece)
            digest.update(piece)
            yield piece
        yield padding(size)
        self._sealed.append(Sealed(name, size, digest.hexdigest()))

    def _named(self) -> Iterator[str]:
        yield from self._source.files
        for key in self._rows.blobs:
            yield f"{BLOBS_FOLDER}/{key}"
        yield from self._below_folders()

    def _below_folders(self) -> Iterator[str]:
        data_dir = self._source.data_dir
        for folder in self._folders:
            for path in sorted((data_dir / folder).rglob("*")):
                if path.is_file() and not path.is_symlink():
                    yield path.relative_to(data_dir).as_posix()

    def _size(self, name: str) -> int:
        with suppress(OSError):
            return (self._source.data_dir / name).stat().st_size
        return 0


class Backups:
    """Backups of the folder that this process owns, one at a time. For one event loop."""

    def __init__(self, source: Source, hold: Hold, clock: Clock) -> None:
        self._source = source
        self._hold = hold
        self._clock = clock
        self._busy = False

    @asynccontextmanager
    async def make(self, *, models: bool = False) -> AsyncIterator[Backup]:
        """A backup of this moment. Raises `Unavailable` while another one is made, or where there is no room for the
        database's copy; `OperatorError` for a database that is damaged."""
        if self._busy:
            raise Unavailable("Another backup is being made.", retry_after_s=RETRY_AFTER_S)
        self._busy = True
        try:
            async with self._hold():
                with closing(await self._prepare(models=models)) as backup:
                    yield backup
        finally:
            self._busy = False

    async def _prepare(self, *, models: bool) -> Backup:
        work = asyncio.to_thread(prepare, self._source, self._clock.wall(), models=models)
        preparing = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(preparing)
        except asyncio.CancelledError:
            preparing.add_done_callback(lambda done: None if done.exception() else done.result().close())
            raise


@contextmanager
def backup_of_stopped(source: Source, clock: Clock, *, models: bool = False) -> Iterator[Backup]:
    """A backup of a folder that no server owns; it is owned meanwhile. The database is left at its schema.

    Raises `OperatorError` where there is nothing to back up, or another process owns the folder.
    """
    if not (source.data_dir / DATABASE_FILE).is_file():
        raise OperatorError(f"{source.data_dir} is no data folder of Pileus: name one with --data")
    lock = OwnerLock.take(source.data_dir)
    try:
        with closing(prepare(source, clock.wall(), models=models)) as backup:
            yield backup
    finally:
        lock.release()


def prepare(source: Source, made_at: float, *, models: bool) -> Backup:
    """Copy the database, check the copy, and see what it names. Blocks. Raises `Unavailable`."""
    data_dir = source.data_dir
    try:
        _sweep(data_dir)
        folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=data_dir)).resolve()
        try:
            copy = folder / DATABASE_FILE
            rows = _copied(data_dir / DATABASE_FILE, copy)
            return Backup(source, copy.open("rb"), rows, made_at, models=models)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # the open file stays until it is closed
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"The database cannot be copied: {error}.", retry_after_s=RETRY_AFTER_S) from error


def _sweep(data_dir: Path) -> None:
    """Remove what a backup left behind that was killed."""
    for left in data_dir.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def _copied(database: Path, copy: Path) -> Rows:
    path = database.resolve().as_uri()
    with (
        closing(sqlite3.connect(f"{path}?mode=ro", uri=True, timeout=_BUSY_S)) as reader,
        closing(sqlite3.connect(copy, isolation_level=None)) as writer,
    ):
        writer.execute("PRAGMA synchronous = OFF")  # it is read back at once, and means nothing after a crash
        reader.backup(writer)
    copy.chmod(0o600)
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        [(verdict,), *_] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({verdict}): restore an older backup")
        return _rows(connection)


def _rows(connection: sqlite3.Connection) -> Rows:
    """From whatever schema the database has."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    blobs: dict[str, str] = {}
    jobs: list[str] = []
    if "job" in tables:
        for job, keys in connection.execute("SELECT id, blobs FROM job ORDER BY sequence"):
            jobs.append(job)
            blobs |= dict.fromkeys(filter(None, keys.split(",")), "")
    if "upload_part" in tables:
        blobs |= {key: "" for (key,) in connection.execute("SELECT blob FROM upload_part ORDER BY id")}
    if "file" in tables:
        blobs |= dict(connection.execute("SELECT blob, sha256 FROM file ORDER BY id"))
    [(schema,)] = connection.execute("SELECT version_num FROM alembic_version")
    return Rows(schema, blobs, tuple(jobs))
