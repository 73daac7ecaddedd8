"""Contents as other rooms see them: bytes under a key, written once and never changed.

Adapters are `store.local_blobs` (a folder) and `store.s3_blobs` (any S3-compatible service). All methods are for an
event loop and never block it; what they wait for is the disk or the network. Both raise `Unavailable` where the place
cannot be reached or is full: nothing is then left under the key.
"""

import re
from collections.abc import AsyncIterator
from typing import Final, Protocol

from msgspec import Struct

_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_KEY_LIMIT: Final = 512  # characters
_ID: Final = "[0-9a-hjkmnp-tv-z]{24}"  # behind the kind; see `core.ids`
_MADE: Final = re.compile(f"files/file-{_ID}|parts/part_{_ID}|batches/batch_{_ID}/[0-9]+/(output|errors)")

MADE_PREFIXES: Final = ("files/", "parts/", "batches/")

PIECE_BYTES: Final = 1024 * 1024  # most that one piece of what is read has


def checked_key(key: str) -> str:
    """Raises `ValueError` for what is no key: no segment begins with a dot, so that none leads elsewhere."""
    if not is_key(key):
        raise ValueError(f"{key!r} is no key of a blob")
    return key


def is_key(name: str) -> bool:
    """Whether it can be one."""
    return len(name) <= _KEY_LIMIT and _KEY.fullmatch(name) is not None


def is_made(key: str) -> bool:
    """Whether it has the shape of those that Pileus makes: what has another is somebody else's."""
    return _MADE.fullmatch(key) is not None


class BlobInfo(Struct, frozen=True):
    """What was written."""

    key: str
    bytes: int
    sha256: str  # in hexadecimal digits


class BlobDraft(Protocol):
    """A blob that is being written. Nobody sees it before `commit`."""

    async def write(self, data: bytes | memoryview) -> None:
        """Append; the memory that waits for the disk is bounded."""
        ...

    async def commit(self) -> BlobInfo:
        """Durable when this returns."""
        ...

    async def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit` or when done twice."""
        ...


class Blobs(Protocol):
    """A place for contents."""

    async def create(self, key: str) -> BlobDraft:
        """Begin to write under a new key: path segments of letters, digits, `_`, `.` and `-`, e.g. `files/file_1`."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`, in pieces of up to a megabyte. Raises `NotFound`."""
        ...

    async def delete(self, key: str) -> None:
        """No-op for a key that has nothing."""
        ...

    def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        """Keys with the wall-clock time at which they were written. What lies there under a name that can be no key is
        left out."""
        ...

    async def may_delete(self) -> bool:
        """Whether what lies there is this data folder's. Asked of the place itself, each time."""
        ...

    async def discard_drafts(self, before: float) -> None:
        """Remove what writers that died left unfinished, if it was last written before this wall-clock time. A service
        that keeps such things where nobody can list them has a rule of its own for their end."""
        ...


async def read_whole(blobs: Blobs, key: str) -> bytes:
    """All of a content that is known to be small. Raises `NotFound`."""
    return b"".join([piece async for piece in blobs.read(key)])
