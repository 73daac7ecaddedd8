"""Files in a job's folder that count up to a length with a hash."""

import os
from hashlib import file_digest, sha256
from pathlib import Path

from pileus.batch.records import Extent
from pileus.store.durable import sync_folder


def write_file(folder: Path, name: str, data: bytes) -> Extent:
    """Write it, durably when this returns."""
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return Extent(name, len(data), sha256(data).hexdigest())


def is_intact(folder: Path, extent: Extent) -> bool:
    """Whether the whole file is as it was written."""
    path = folder / extent.name
    try:
        with path.open("rb") as file:
            return path.stat().st_size == extent.length and file_digest(file, "sha256").hexdigest() == extent.sha256
    except FileNotFoundError:
        return False


def write_all(descriptor: int, data: bytes) -> None:
    """As often as it takes."""
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += os.write(descriptor, rest[written:])
