"""Contents in an S3-compatible service, through obstore.

Small contents are one request. Larger ones go up in parts, two at a time, while more of them comes; nobody sees a key
before all of its parts are there. Reading asks for a few megabytes at a time, so that a slow reader holds no
connection. Credentials, region and endpoint come from the environment (`AWS_*`).

A writer that dies leaves an upload in parts that no listing shows: buckets have lifecycle rules for those
(`AbortIncompleteMultipartUpload`).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from pileus.core.errors import NotFound, Unavailable
from pileus.observability.events import get_log
from pileus.store.blobs import PIECE_BYTES, BlobInfo, checked_key, is_key

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ClientConfig, RetryConfig

RETRY_AFTER_S: Final = 5.0
_PART_BYTES: Final = 8 * 1024 * 1024  # S3 takes 10,000 parts of at least 5 MiB
_PARTS_AT_ONCE: Final = 2
_READ_BYTES: Final = 4 * PIECE_BYTES

T = TypeVar("T")

log = get_log(__name__)


class S3Blobs:
    """See `store.blobs.Blobs`."""

    def __init__(self, url: str, *, endpoint: str = "") -> None:
        """`url` is `s3://bucket/prefix`. An endpoint that begins with http:// is spoken to without TLS."""
        client: ClientConfig = {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        }
        retry: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
        self._store = S3Store.from_url(url, client_options=client, retry_config=retry)

    async def create(self, key: str) -> "S3Draft":
        writer = obstore.open_writer_async(
            self._store, checked_key(key), buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )
        return S3Draft(writer, key)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        size = (await _answer(obstore.head_async(self._store, checked_key(key)), key))["size"]
        end = size if end is None else min(end, size)
        while start < end:
            stop = min(start + _READ_BYTES, end)
            found = await _answer(obstore.get_range_async(self._store, key, start=start, end=stop), key)
            with memoryview(found) as some:
                for at in range(0, len(some), PIECE_BYTES):
                    yield bytes(some[at : at + PIECE_BYTES])
            start = stop

    async def delete(self, key: str) -> None:
        with suppress(NotFound):
            await _answer(obstore.delete_async(self._store, checked_key(key)), key)

    async def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, float]]:
        try:
            async for some in obstore.list(self._store, prefix=prefix.rpartition("/")[0] or None):
                for each in some:
                    if each["path"].startswith(prefix) and is_key(each["path"]):
                        yield each["path"], each["last_modified"].timestamp()
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    async def may_delete(self) -> bool:
        """Nothing is known of others here; see `store.claimed_blobs`."""
        return True

    async def discard_drafts(self, before: float) -> None:
        """The bucket's lifecycle rule does."""


class S3Draft:
    """See `store.blobs.BlobDraft`."""

    def __init__(self, writer: "AsyncWritableFile", key: str) -> None:
        self._writer = writer
        self._key = key
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._is_open = True

    async def write(self, data: bytes | memoryview) -> None:
        await asyncio.to_thread(self._hash.update, data)
        self._bytes += len(data)
        await _answer(self._writer.write(data), self._key)

    async def commit(self) -> BlobInfo:
        await _answer(self._writer.close(), self._key)
        self._is_open = False
        return BlobInfo(self._key, self._bytes, self._hash.hexdigest())

    async def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(BaseError, OSError):  # the latter where a commit failed: there is nothing to abort
                await self._writer.__aexit__(asyncio.CancelledError, None, None)


async def _answer(asked: Awaitable[T], key: str) -> T:
    try:
        return await asked
    except FileNotFoundError:
        raise NotFound(f"There is no content {key!r}.") from None
    except (BaseError, OSError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    log.warning("blobs.unreachable", reason=str(error).partition("\n")[0])
    return Unavailable("Pileus cannot reach its contents at present.", retry_after_s=RETRY_AFTER_S)
