"""Makes a data folder of a backup.

The archive is read to its end before anything is written, and once more while it is. What it holds is put into a folder
of its own within the new data folder and moved to its place when all of it is on the disk, the database last: a restore
that was cut off leaves nothing that a server would start from. The new folder is owned meanwhile.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pileus.core.errors import OperatorError
from pileus.store.archive import Manifest, Member, Reader, damaged, foreign
from pileus.store.backup import BLOBS_FOLDER, DATABASE_FILE, JOBS_FOLDER
from pileus.store.durable import sync_folder
from pileus.store.migrate import is_known
from pileus.store.owner import LOCK_FILE, OwnerLock, cannot_write
from pileus.store.schema import HEAD

WORK_FOLDER = "restore.tmp"
_SEGMENT = re.compile(r"[A-Za-z0-9_.+@=, -]{1,255}")
_LEFT_BY_OTHERS = {LOCK_FILE, "lost+found"}  # a folder with nothing else is empty

Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all


class Restore:
    """One archive on its way into data folders. `files` lie beside the database, everything else in `folders`."""

    def __init__(self, archive: Path, *, files: frozenset[str], folders: frozenset[str]) -> None:
        self._archive = archive
        self._files = files | {DATABASE_FILE}
        self._folders = folders | {BLOBS_FOLDER, JOBS_FOLDER}

    def check(self, progress: Progress) -> Manifest:
        """Read all of it and write nothing. Raises `OperatorError` for one that could not be restored."""
        with self._open() as file:
            return self._read(file, "checking", progress, _pass_over)

    def run(self, data_dir: Path, progress: Progress) -> Manifest:
        """Raises `OperatorError`: the folder is in use, the archive is not one or is damaged, or the disk is full. The
        folder is then as it was."""
        self._check_empty(data_dir)
        self.check(progress)
        was_there = data_dir.exists()
        lock = OwnerLock.take(data_dir)
        try:
            self._check_empty(data_dir)  # checking took its time: somebody may have used the folder
            self._clear(data_dir, also_folder=False)  # what a restore left behind that was cut off
            with self._undone_on_failure(data_dir, also_folder=not was_there), self._open() as file:
                return self._fill(file, data_dir, progress)
        finally:
            lock.release()

    def _fill(self, file: BinaryIO, data_dir: Path, progress: Progress) -> Manifest:
        work = data_dir / WORK_FOLDER
        try:
            work.mkdir(mode=0o700)
            manifest = self._read(file, "restoring", progress, lambda member: _write(member, work))
            for entry in sorted(work.iterdir(), key=lambda entry: entry.name == DATABASE_FILE):
                _sync_folders(entry)
                entry.rename(data_dir / entry.name)
            work.rmdir()
            sync_folder(data_dir)
        except OSError as error:
            raise cannot_write(data_dir, error) from None
        return manifest

    def _read(self, file: BinaryIO, stage: str, progress: Progress, take: Callable[[Member], None]) -> Manifest:
        watched = _Watched(file, stage, progress)
        reader = Reader(watched)
        names: set[str] = set()
        for member in reader.members():
            self._check_name(member.name, first=not names)
            names.add(member.name)
            take(member)
        manifest = reader.manifest
        assert manifest is not None
        if missing := self._files - names:
            raise damaged(f"it has no {', '.join(sorted(missing))}")
        if not is_known(manifest.schema):
            raise OperatorError(
                f"the backup is from another Pileus ({manifest.pileus}, schema {manifest.schema}; "
                f"this one knows {HEAD}): restore it with that version"
            )
        return manifest

    def _check_name(self, name: str, *, first: bool) -> None:
        """A name is no path: it is one of the known files, or plain segments below one of the known folders."""
        if first and name != DATABASE_FILE:
            raise foreign(f"it begins with {name!r}")
        segments = name.split("/")
        plain = all(_SEGMENT.fullmatch(each) and each.strip(". ") for each in segments)
        if name not in self._files and not (plain and len(segments) > 1 and segments[0] in self._folders):
            raise foreign(f"it has a file {name!r}")

    def _check_empty(self, data_dir: Path) -> None:
        """A restore that was cut off has its own folder there still, and no database yet: it may be done again."""
        try:
            inside = {entry.name for entry in data_dir.iterdir()}
        except FileNotFoundError:
            return
        except OSError as error:
            raise cannot_write(data_dir, error) from None
        cut_off = WORK_FOLDER in inside and DATABASE_FILE not in inside
        if inside - _LEFT_BY_OTHERS - (self._files | self._folders | {WORK_FOLDER} if cut_off else set()):
            raise OperatorError(f"{data_dir} is not empty: name a new folder with --data")

    def _open(self) -> BinaryIO:
        try:
            return self._archive.open("rb")
        except OSError as error:
            raise OperatorError(f"cannot read {self._archive}: {error.strerror}") from None

    @contextmanager
    def _undone_on_failure(self, data_dir: Path, *, also_folder: bool) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._clear(data_dir, also_folder=also_folder)
            raise

    def _clear(self, data_dir: Path, *, also_folder: bool) -> None:
        for name in (*self._files, *self._folders, WORK_FOLDER):
            path = data_dir / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if also_folder:
            (data_dir / LOCK_FILE).unlink(missing_ok=True)
            with suppress(OSError):
                data_dir.rmdir()


class _Watched:
    """A file, the reading of which is told."""

    def __init__(self, file: BinaryIO, stage: str, progress: Progress) -> None:
        self._file = file
        self._total = os.fstat(file.fileno()).st_size
        self._stage = stage
        self._progress = progress
        self._done = 0

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._done += len(piece)
        self._progress(self._stage, self._done, self._total)
        return piece


def _pass_over(member: Member) -> None:
    for _ in member.pieces():
        pass


def _write(member: Member, folder: Path) -> None:
    path = folder.joinpath(*member.name.split("/"))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # it is open already
        for piece in member.pieces():
            file.write(piece)
        file.flush()
        os.fsync(descriptor)


def _sync_folders(entry: Path) -> None:
    """The names of the files in it; their contents are on the disk already."""
    if entry.is_dir():
        for below in entry.iterdir():
            _sync_folders(below)
        sync_folder(entry)
