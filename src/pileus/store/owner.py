"""One process owns a data folder at a time.

The lock is the kernel's (`flock`), so it goes with its process however that ends; the process id in the file is only
for people. The file is never removed: a lock on a removed name would lock out nobody.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pileus.core.errors import OperatorError

LOCK_FILE = "owner.lock"

_LOOKS: Final = 50  # how often those who only look are waited for
_LOOK_S: Final = 0.02


class OwnerLock:
    """The right to write into a data folder, from `take` to `release`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, data_dir: Path) -> "OwnerLock":
        """Make the folder if need be and own it. Raises `OperatorError` where another process does, or it cannot be
        written to."""
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise cannot_write(data_dir, error) from None
        try:
            _lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise OperatorError(
                f"another Pileus (pid {owner}) owns {data_dir}; stop it, or use another folder with --data"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise cannot_write(data_dir, error) from None
        return cls(descriptor)

    def release(self) -> None:
        """Give the folder up. Harmless when done twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_owned(data_dir: Path) -> bool:
    """Whether a process owns the folder now. Nothing is written, and nobody who would own it is kept from it. Raises
    `OperatorError`."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OperatorError(f"cannot read {data_dir / LOCK_FILE}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Raises `BlockingIOError` where another process owns the folder. Who shares the lock only looks (`is_owned`), and
    is gone in a moment."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(_LOOK_S)
    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))


def cannot_write(data_dir: Path, error: OSError) -> OperatorError:
    """One line on why the data folder cannot be used, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OperatorError(f"no space left for {data_dir}; free some, or use another folder with --data")
    reason = error.strerror or str(error)
    return OperatorError(f"cannot write to {data_dir}: {reason}; make it writable, or use another folder with --data")
