"""From the stored input to a plan: a copy in the job's folder, read once, checked on the way."""

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from pileus.batch.files import write_all
from pileus.batch.plan import Plan
from pileus.batch.records import Extent
from pileus.batch.validation import Validation
from pileus.store.blobs import Blobs
from pileus.store.durable import sync_folder


class Intake(Struct, frozen=True):
    """What came in; `plan` is None where something is wrong with it."""

    input: Extent
    plan: Plan | None


async def take_in(
    blobs: Blobs, key: str, folder: Path, name: str, validation: Validation, *, stopped: Callable[[], bool]
) -> Intake | None:
    """Copy the content to a file of that name, durably, and check it. None where it was stopped."""
    copy = await asyncio.to_thread(_Copy, folder, name)
    try:
        async for piece in blobs.read(key):
            await asyncio.to_thread(copy.write, piece)
            validation.feed(piece)
            if stopped():
                return None
            if validation.given_up:
                break
        extent = await asyncio.to_thread(copy.sync)
    finally:
        copy.close()
    return Intake(extent, validation.finish())


class _Copy:
    """A file in the making. Methods wait for the disk."""

    def __init__(self, folder: Path, name: str) -> None:
        for old in folder.glob("input.*"):
            old.unlink(missing_ok=True)  # of a lease that did not get so far; who still writes it does so in vain
        self._folder = folder
        self._name = name
        self._file = (folder / name).open("wb", buffering=0)
        self._digest = sha256()
        self._length = 0

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._length += len(data)
        write_all(self._file.fileno(), data)

    def sync(self) -> Extent:
        os.fsync(self._file.fileno())
        sync_folder(self._folder)
        return Extent(self._name, self._length, self._digest.hexdigest())

    def close(self) -> None:
        self._file.close()


class Input:
    """The copy, to read lines from wherever they stand."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._plan = plan

    def line(self, place: int) -> bytes:
        """Read at once, without a thread: the copy was written or checked just before, and is in the page cache; and so
        lines begin in the order of the plan."""
        offset, length = self._plan.extent(place)
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        os.close(self._descriptor)
