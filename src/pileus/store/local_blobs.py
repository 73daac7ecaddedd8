"""Contents in a folder.

What is written stands under a draft name first; its bytes are synced, then it is renamed, then the folders are synced:
so a key has the whole content or none, also after a power cut. A sync that failed is never tried again: the kernel may
have dropped the pages that it could not write, and would report success the second time. The draft is given up.

Disk and hashing have threads of their own. A writer hands over half a megabyte at a time, and waits for it.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from pileus.core.errors import NotFound, Unavailable
from pileus.core.ids import new_id
from pileus.store.blobs import PIECE_BYTES, BlobInfo, checked_key, is_key
from pileus.store.durable import make_folder, sync_folder

RETRY_AFTER_S: Final = 2.0
_THREADS: Final = 8
_HAND_OVER_BYTES: Final = PIECE_BYTES // 2
_KEYS_AT_ONCE: Final = 1000
_MOVES: Final = 10  # that are tried
_DRAFTS: Final = ".drafts"  # no key begins with a dot

T = TypeVar("T")


class LocalBlobs:
    """See `store.blobs.Blobs`. Several processes may use one folder, each writing under keys of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = folder / _DRAFTS
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")

    async def create(self, key: str) -> "LocalDraft":
        return LocalDraft(self._threads, self._folder, checked_key(key), self._drafts / new_id("draft"))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        path = self._folder / checked_key(key)
        file = await self._run(lambda: _open(path, key))
        try:
            while end is None or start < end:
                size = PIECE_BYTES if end is None else min(PIECE_BYTES, end - start)
                piece = await self._run(partial(os.pread, file.fileno(), size, start))
                if not piece:
                    return
                yield piece
                start += len(piece)
        finally:
            self._threads.submit(file.close)  # the last to hold a deleted file waits while it is freed

    async def delete(self, key: str) -> None:
        path = self._folder / checked_key(key)
        await self._run(lambda: _remove(path, self._folder))

    async def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        found = self._walk(prefix)
        while some := await self._run(lambda: list(islice(found, _KEYS_AT_ONCE))):
            for key_and_time in some:
                yield key_and_time

    async def may_delete(self) -> bool:
        """The folder lies in the data folder."""
        return True

    async def discard_drafts(self, before: float) -> None:
        await self._run(lambda: _discard(self._drafts, before))

    def _walk(self, prefix: str) -> Iterator[tuple[str, float]]:
        for folder, names, files in os.walk(self._folder / prefix.rpartition("/")[0]):
            names[:] = [name for name in names if name != _DRAFTS]
            for name in files:
                path = Path(folder, name)
                key = path.relative_to(self._folder).as_posix()
                with suppress(FileNotFoundError):  # deleted meanwhile
                    if key.startswith(prefix) and is_key(key):
                        yield key, path.stat().st_mtime

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(self._threads.submit(work))
        except OSError as error:
            raise _unavailable(error) from error


class LocalDraft:
    """See `store.blobs.BlobDraft`. One thing happens to it at a time, in a thread."""

    def __init__(self, threads: ThreadPoolExecutor, folder: Path, key: str, draft: Path) -> None:
        self._threads = threads
        self._key = key
        self._target = folder / key
        self._draft = draft
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self._bytes = 0
        self._at_work: Future[None] | None = None
        self._is_open = True
        self._is_published = False

    async def write(self, data: bytes | memoryview) -> None:
        for start in range(0, len(data), _HAND_OVER_BYTES):
            self._waiting += data[start : start + _HAND_OVER_BYTES]
            if len(self._waiting) >= _HAND_OVER_BYTES:
                await self._hand_over()

    async def commit(self) -> BlobInfo:
        await self._hand_over()
        await self._run(self._publish)
        self._is_open = False
        return BlobInfo(self._key, self._bytes, self._hash.hexdigest())

    async def abort(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._at_work is not None:  # it goes on when whoever waited for it has left
            await asyncio.wait([asyncio.wrap_future(self._at_work)])
        await asyncio.wrap_future(self._threads.submit(self._give_up))

    async def _hand_over(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        await self._run(lambda: self._append(data))

    async def _run(self, work: Callable[[], None]) -> None:
        """What fails, fails for good."""
        if not self._is_open:
            raise Unavailable("This content was given up.", retry_after_s=RETRY_AFTER_S)
        self._at_work = self._threads.submit(work)
        try:
            await asyncio.shield(asyncio.wrap_future(self._at_work))
        except OSError as error:
            await self.abort()
            raise _unavailable(error) from error

    # --- in a thread ---

    def _append(self, data: bytearray) -> None:
        if self._descriptor < 0:
            make_folder(self._draft.parent)
            self._descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._hash.update(data)
        self._bytes += len(data)
        with memoryview(data) as rest:
            written = 0
            while written < len(rest):
                written += os.write(self._descriptor, rest[written:])

    def _publish(self) -> None:
        os.fsync(self._descriptor)
        self._move()
        self._is_published = True
        sync_folder(self._target.parent)
        self._close()

    def _move(self) -> None:
        """A folder that is empty may be removed by a deletion meanwhile."""
        for attempt in range(_MOVES):
            try:
                make_folder(self._target.parent)
                self._draft.rename(self._target)
                return
            except FileNotFoundError:
                if attempt + 1 == _MOVES:
                    raise

    def _give_up(self) -> None:
        self._close()
        with suppress(OSError):
            (self._target if self._is_published else self._draft).unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _remove(path: Path, root: Path) -> None:
    """With the folders that are empty then, but for those at the top, which others are about to write to."""
    path.unlink(missing_ok=True)
    folder = path.parent
    with suppress(OSError):  # it is not empty, or is gone
        while root not in (folder, folder.parent):
            folder.rmdir()
            folder = folder.parent


def _open(path: Path, key: str) -> FileIO:
    try:
        return FileIO(path)
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"There is no content {key!r}.") from None


def _discard(drafts: Path, before: float) -> None:
    for draft in drafts.glob("*"):
        with suppress(FileNotFoundError):
            if draft.stat().st_mtime < before:
                draft.unlink()


def _unavailable(error: OSError) -> Unavailable:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "no space is left" if full else (error.strerror or str(error))
    return Unavailable(f"Pileus cannot keep contents at present: {reason}.", retry_after_s=RETRY_AFTER_S)
