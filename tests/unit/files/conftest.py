"""Files over a real store and a real folder, with a clock that is moved by hand."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pileus.config.settings import Files as Limits
from pileus.files.service import FileService
from pileus.store.file_table import StoredFile, StoredPart, StoredUpload
from pileus.store.local_blobs import LocalBlobs
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock

LIMITS = Limits(max_bytes=100_000, max_tenant_bytes=250_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


@pytest.fixture
def files(store: SqliteStore, blobs: LocalBlobs, clock: ManualClock) -> FileService:
    return FileService(store, blobs, clock, LIMITS)


@pytest.fixture
def kept(blobs: LocalBlobs, tmp_path: Path) -> Callable[[], Awaitable[set[str]]]:
    """The keys in the blob store, with drafts if there are any."""

    async def look() -> set[str]:
        drafts = {f"draft {path.name}" for path in (tmp_path / "blobs" / ".drafts").glob("*")}
        return drafts | {key async for key, _ in blobs.keys()}  # noqa: SIM118 - no mapping

    return look


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def stored(
    files: FileService,
    content: bytes = b"content",
    *,
    tenant: str = "acme",
    purpose: str = "user_data",
    expires_s: float | None = None,
) -> StoredFile:
    return await files.create(tenant, "key_1", stream(content), filename="a.txt", purpose=purpose, expires_s=expires_s)


async def announced(files: FileService, size: int, tenant: str = "acme") -> StoredUpload:
    return await files.uploads.create(tenant, "key_1", size=size, filename="a.txt", purpose="user_data")


async def sent(files: FileService, upload: StoredUpload, content: bytes) -> StoredPart:
    async with files.uploads.incoming_part(upload) as incoming:
        await incoming.write(content)
        return await files.uploads.add_part(upload, incoming)


async def read(files: FileService, file: StoredFile) -> bytes:
    return b"".join([piece async for piece in files.content(file)])
