"""The models folder: blobs by their sha256, one folder per artefact, and locks so that two pulls do not collide.

blobs/<sha256>       a file as it was fetched
partial/<sha256>     one that is still being fetched; a later pull goes on from here
artefacts/<name>/    what is served; appears by a rename, so it is whole or absent
masters/<name>/      the Hugging Face folder that an artefact was made of; training and compression begin from it
work/<name>.*/       scratch of one conversion or unpacking; swept by the next holder of the name's lock
locks/<name>
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.artefact import Artefact, digest_file, load_artefact
from pileus.models.progress import Progress

MODELS_FOLDER: Final = "models"  # in the data folder


class ModelStore:
    """Files and folders under one root; knows nothing of where they come from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._partial = root / "partial"
        self._artefacts = root / "artefacts"
        self._masters = root / "masters"
        self._work = root / "work"
        self._locks = root / "locks"

    @contextmanager
    def hold(self, name: str, progress: Progress) -> Iterator[None]:
        """Be the only one who changes this model or blob; waits for another process that does."""
        with told_to_operator(self.root):
            for folder in (self._blobs, self._partial, self._artefacts, self._masters, self._work, self._locks):
                folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("waiting for another pull", 0, 0)
                fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.rmtree(self._work / name, ignore_errors=True)
            with told_to_operator(self.root):
                yield
        finally:
            os.close(lock)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A new folder on the same file system, removed at the end unless it was installed."""
        work = self._work / name
        work.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=work))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # --- blobs ---

    def partial(self, sha256: str) -> Path:
        return self._partial / sha256

    def blob(self, sha256: str) -> Path | None:
        """The fetched file if it is here and whole; a damaged one is dropped."""
        path = self._blobs / sha256
        if not path.exists():
            return None
        if digest_file(path).sha256 == sha256:
            return path
        path.unlink()
        return None

    def keep_blob(self, partial: Path, sha256: str) -> Path:
        """Make a fetched file durable under its hash, which the caller has checked."""
        sync_file(partial)
        path = self._blobs / sha256
        partial.rename(path)
        sync_folder(self._blobs)
        return path

    # --- artefacts ---

    def artefact(self, name: str) -> Artefact | None:
        path = self._artefacts / name
        return load_artefact(path) if path.is_dir() else None

    def artefacts(self) -> list[Artefact]:
        """All that are readable; a broken one is told by whoever asks for it by name."""
        found = []
        for path in sorted(self._artefacts.iterdir()) if self._artefacts.is_dir() else ():
            try:
                found.append(load_artefact(path))
            except ModelRefused:
                continue
        return found

    def install(self, folder: Path, name: str) -> Artefact:
        """Let a finished folder appear under its name, durable before it is seen; an older one goes."""
        for file in folder.iterdir():
            sync_file(file)
        sync_folder(folder)
        self._drop(self._artefacts / name)
        target = self._artefacts / name
        folder.rename(target)
        sync_folder(self._artefacts)
        return load_artefact(target)

    def master(self, name: str) -> Path | None:
        """A Hugging Face folder with weights in safetensors, if it was kept."""
        path = self._masters / name
        return path if path.is_dir() else None

    def keep_master(self, folder: Path, name: str) -> Path:
        """Let a finished folder appear as the model's master, durable before it is seen; an older one goes. Call while
        holding the name's lock, with a folder of this file system (`scratch`)."""
        for file in folder.iterdir():
            sync_file(file)
        sync_folder(folder)
        self._drop(self._masters / name)
        folder.rename(self._masters / name)
        sync_folder(self._masters)
        return self._masters / name

    def drop_master(self, name: str) -> bool:
        """Whether there was one."""
        return self._drop(self._masters / name)

    def remove(self, name: str) -> bool:
        """Delete an artefact and its master; whether there was one. It vanishes at once, then its files go."""
        self._drop(self._masters / name)
        return self._drop(self._artefacts / name)

    def _drop(self, path: Path) -> bool:
        if not path.is_dir():
            return False
        with self.scratch(path.name) as grave:
            path.rename(grave / path.name)
        return True

    def drop_blob(self, sha256: str) -> bool:
        present = [path for path in (self._blobs / sha256, self._partial / sha256) if path.exists()]
        for path in present:
            path.unlink()
        return bool(present)


def require_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise OperatorError(
            f"no disk space: {folder} needs {_megabytes(needed_bytes)}, {_megabytes(free_bytes)} are free; "
            "free some, or choose another folder with --data"
        )


@contextmanager
def told_to_operator(folder: Path) -> Iterator[None]:
    """Turn what a file system refuses into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OperatorError(
                f"no disk space left in {folder}: free some, or choose another folder with --data"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            if error.filename and not Path(error.filename).is_relative_to(folder):
                raise OperatorError(f"{error.filename} cannot be used ({error.strerror}): fix that first") from error
            raise OperatorError(
                f"cannot write to {folder} ({error.strerror}): fix its permissions, or choose another with --data"
            ) from error
        raise


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_folder = sync_file


def _megabytes(count_bytes: int) -> str:
    return f"{count_bytes / 1e6:,.0f} MB"
