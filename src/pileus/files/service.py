"""Files: stored once, read often, never changed, and nobody's but their tenant's."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from sqlalchemy import Connection

from pileus.config.settings import Files as Limits
from pileus.core.clock import Clock
from pileus.core.errors import NotFound
from pileus.core.ids import new_id
from pileus.files.incoming import Incoming, Quota
from pileus.files.records import checked_filename, expires_at
from pileus.files.sweeper import Sweeper
from pileus.files.uploads import Uploads
from pileus.store.blobs import Blobs
from pileus.store.file_table import (
    StoredFile,
    delete_expired_files,
    delete_file,
    find_file,
    forget_gone_files,
    insert_file,
    page_of_files,
    place_of_file,
)
from pileus.store.port import Store

_GONE_S: Final = 86_400.0  # how long the list goes on behind a file that is gone


class FileService:
    """All files of this Pileus. For one event loop."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, limits: Limits) -> None:
        self.limits = limits
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._quota = Quota(limits)
        self._sweeper = Sweeper(store, blobs, clock, self._expire)
        self.uploads = Uploads(store, blobs, clock, limits, self._quota, self._sweeper.drop)

    # --- in ---

    def incoming(self, tenant: str) -> Incoming:
        """A content that comes in for a new file; to be entered, written to, and given to `add`."""
        return Incoming(
            self._store,
            self._blobs,
            f"files/{new_id('file', '-')}",
            tenant=tenant,
            most_bytes=self.limits.max_bytes,
            quota=self._quota,
            drop=self._sweeper.drop,
        )

    async def add(
        self, content: Incoming, *, key_id: str, filename: str, purpose: str, expires_s: float | None = None
    ) -> StoredFile:
        """Make a file of what came in, durably. Raises `QuotaExceeded`, `Unavailable`."""
        filename = checked_filename(filename)
        info = await content.finish()
        now = self._clock.wall()
        file = StoredFile(
            id=info.key.rpartition("/")[2],
            tenant=content.tenant,
            key_id=key_id,
            filename=filename,
            purpose=purpose,
            bytes=info.bytes,
            sha256=info.sha256,
            blob=info.key,
            created_at=now,
            expires_at=expires_at(purpose, expires_s, now),
        )

        def write(tx: Connection) -> None:
            self._quota.check(tx, file.tenant, file.bytes)
            insert_file(tx, file)

        await content.keep(write)
        return file

    async def create(
        self,
        tenant: str,
        key_id: str,
        stream: AsyncIterable[bytes],
        *,
        filename: str,
        purpose: str,
        expires_s: float | None = None,
    ) -> StoredFile:
        """Store what a stream gives, in bounded memory."""
        async with self.incoming(tenant) as content:
            async for piece in stream:
                await content.write(piece)
            return await self.add(content, key_id=key_id, filename=filename, purpose=purpose, expires_s=expires_s)

    # --- out ---

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        """Raises `NotFound`, also for another tenant's."""
        found = await self._store.read(lambda tx: find_file(tx, tenant, file_id, self._clock.wall()))
        if found is None:
            raise _not_found(file_id)
        return found

    async def list(
        self, tenant: str, *, limit: int, after: str = "", newest_first: bool = True, purpose: str = ""
    ) -> tuple[list[StoredFile], bool]:
        """Up to `limit` files from the one behind `after` on, and whether more follow. Raises `NotFound` where there is
        no file `after`, and was none within the last day: whoever deletes what it lists goes on behind what is gone."""
        now = self._clock.wall()

        def read(tx: Connection) -> list[StoredFile]:
            last = place_of_file(tx, tenant, after) if after else None
            if after and last is None:
                raise _not_found(after)
            return page_of_files(tx, tenant, now, limit + 1, after=last, newest_first=newest_first, purpose=purpose)

        found = await self._store.read(read)
        return found[:limit], len(found) > limit

    def content(self, file: StoredFile, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `end`."""
        return self._blobs.read(file.blob, start, end)

    async def delete(self, tenant: str, file_id: str) -> None:
        """It is gone at once; its content is deleted later. Raises `NotFound`."""
        deleted = await self._store.write(lambda tx: delete_file(tx, tenant, file_id, self._clock.wall()))
        if deleted is None:
            raise _not_found(file_id)
        self.release([deleted.blob])

    # --- behind the scenes ---

    def release(self, keys: Iterable[str]) -> None:
        """These contents are no longer of use to whoever says so; they are deleted unless something refers to them."""
        self._sweeper.drop(keys)

    def hold_deletions(self) -> AbstractAsyncContextManager[None]:
        """To be entered by who copies contents: none is deleted inside the block."""
        return self._sweeper.hold()

    async def run(self) -> None:
        """Delete what has expired and what nobody refers to, for ever."""
        await self._sweeper.run()

    async def sweep(self) -> None:
        """One round of that."""
        await self._sweeper.sweep()

    async def _expire(self) -> None:
        now = self._clock.wall()

        def write(tx: Connection) -> list[str]:
            forget_gone_files(tx, now - _GONE_S)
            return delete_expired_files(tx, now)

        self.release(await self._store.write(write))
        await self.uploads.expire()


def _not_found(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id!r}.")
