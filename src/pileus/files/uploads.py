"""Files that come in parts: announced, filled in any order, then put together."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import structs
from sqlalchemy import Connection

from pileus.config.settings import Files as Limits
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, TooLarge
from pileus.core.ids import new_id
from pileus.files.incoming import Incoming, Quota
from pileus.files.records import MOST_PART_BYTES, MOST_PARTS, MOST_UPLOAD_BYTES, UPLOAD_S, checked_filename, expires_at
from pileus.store.blobs import Blobs
from pileus.store.file_table import (
    PENDING,
    StoredFile,
    StoredPart,
    StoredUpload,
    end_upload,
    find_upload,
    forget_uploads,
    insert_file,
    insert_part,
    insert_upload,
    overdue_uploads,
    parts_of,
    sum_of_parts,
)
from pileus.store.port import Store

COMPLETED: Final = "completed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
_REMEMBERED_S: Final = 86_400.0  # what became of it, for whoever still asks


class Uploads:
    """All uploads of this Pileus. For one event loop."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        limits: Limits,
        quota: Quota,
        drop: Callable[[Iterable[str]], None],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._most_bytes = min(limits.max_bytes, MOST_UPLOAD_BYTES)
        self._quota = quota
        self._drop = drop
        self._completing: set[str] = set()

    async def create(
        self,
        tenant: str,
        key_id: str,
        *,
        size: int,
        filename: str,
        purpose: str,
        file_expires_s: float | None = None,
    ) -> StoredUpload:
        """Announce a file of `size` bytes; they count as stored from now on. Raises `QuotaExceeded`."""
        if size > self._most_bytes:
            raise InvalidRequest(f"`bytes` should be at most {self._most_bytes}", param="bytes")
        now = self._clock.wall()
        upload = StoredUpload(
            id=new_id("upload"),
            tenant=tenant,
            key_id=key_id,
            filename=checked_filename(filename),
            purpose=purpose,
            bytes=size,
            status=PENDING,
            created_at=now,
            expires_at=now + UPLOAD_S,
            file_expires_s=file_expires_s,
        )

        def write(tx: Connection) -> None:
            self._quota.check(tx, tenant, size)
            insert_upload(tx, upload)

        await self._store.write(write)
        return upload

    async def pending(self, tenant: str, upload_id: str) -> StoredUpload:
        """One that takes parts. Raises `NotFound`, `InvalidRequest`."""
        return await self._store.read(lambda tx: self._pending(tx, tenant, upload_id))

    def incoming_part(self, upload: StoredUpload) -> Incoming:
        """A content that comes in for a new part; to be entered, written to, and given to `add_part`."""
        return self._incoming(upload, f"parts/{new_id('part')}", MOST_PART_BYTES)

    async def add_part(self, upload: StoredUpload, content: Incoming) -> StoredPart:
        """Make a part of what came in. Parts may be sent twice, so they may take twice what was announced. Raises
        `InvalidRequest` for an empty one, and for one too many."""
        if not content.bytes:
            raise InvalidRequest("`data` should not be empty", param="data")
        info = await content.finish()
        part = StoredPart(
            id=info.key.rpartition("/")[2],
            upload_id=upload.id,
            bytes=info.bytes,
            blob=info.key,
            created_at=self._clock.wall(),
        )

        def write(tx: Connection) -> None:
            self._pending(tx, upload.tenant, upload.id)
            count, before = sum_of_parts(tx, upload.id)
            if count >= MOST_PARTS:
                raise InvalidRequest(f"The upload {upload.id!r} has {MOST_PARTS} parts, and may have no more.")
            after = before + part.bytes
            if after > 2 * upload.bytes + MOST_PART_BYTES:
                raise TooLarge(f"the parts are far more than the {upload.bytes} bytes that were announced")
            reserved = max(after, upload.bytes) - max(before, upload.bytes)
            self._quota.check(tx, upload.tenant, reserved, more_files=1 if count else 0)
            insert_part(tx, part)

        await content.keep(write)
        return part

    async def complete(
        self, tenant: str, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[StoredUpload, StoredFile]:
        """Put the parts together, in this order. Raises `InvalidRequest` where they are not what was announced."""
        upload, parts = await self._store.read(
            lambda tx: (self._pending(tx, tenant, upload_id), parts_of(tx, upload_id))
        )
        chosen = _chosen(upload, parts, part_ids)
        if upload_id in self._completing:
            raise InvalidRequest(f"The upload {upload_id!r} is being completed.")
        self._completing.add(upload_id)
        try:
            return await self._complete(upload, chosen, md5)
        finally:
            self._completing.discard(upload_id)

    async def cancel(self, tenant: str, upload_id: str) -> StoredUpload:
        """Its parts are gone at once. Raises `NotFound`, `InvalidRequest`."""

        def write(tx: Connection) -> tuple[StoredUpload, list[str]]:
            return _open_upload(tx, tenant, upload_id), end_upload(tx, upload_id, CANCELLED)

        upload, keys = await self._store.write(write)
        self._drop(keys)
        return structs.replace(upload, status=CANCELLED)

    async def expire(self) -> None:
        """End those that nobody completed in time."""
        now = self._clock.wall()

        def write(tx: Connection) -> list[str]:
            forget_uploads(tx, now - _REMEMBERED_S)
            overdue = [each for each in overdue_uploads(tx, now) if each not in self._completing]
            return [key for upload_id in overdue for key in end_upload(tx, upload_id, EXPIRED)]

        self._drop(await self._store.write(write))

    async def _complete(
        self, upload: StoredUpload, parts: Sequence[StoredPart], md5: str | None
    ) -> tuple[StoredUpload, StoredFile]:
        async with self._incoming(upload, f"files/{new_id('file', '-')}", upload.bytes) as content:
            digest = hashlib.md5(usedforsecurity=False)
            for part in parts:
                async for piece in self._blobs.read(part.blob):
                    await asyncio.to_thread(digest.update, piece)
                    await content.write(piece)
            if md5 is not None and md5.lower() != digest.hexdigest():
                raise InvalidRequest(f"`md5` should be {digest.hexdigest()}, as the parts have it", param="md5")
            info = await content.finish()
            now = self._clock.wall()
            file = StoredFile(
                id=info.key.rpartition("/")[2],
                tenant=upload.tenant,
                key_id=upload.key_id,
                filename=upload.filename,
                purpose=upload.purpose,
                bytes=info.bytes,
                sha256=info.sha256,
                blob=info.key,
                created_at=now,
                expires_at=expires_at(upload.purpose, upload.file_expires_s, now),
            )

            def write(tx: Connection) -> list[str]:
                _open_upload(tx, upload.tenant, upload.id)
                insert_file(tx, file)
                return end_upload(tx, upload.id, COMPLETED, file.id)

            self._drop(await content.keep(write))
        return structs.replace(upload, status=COMPLETED, file_id=file.id), file

    def _pending(self, tx: Connection, tenant: str, upload_id: str) -> StoredUpload:
        upload = _open_upload(tx, tenant, upload_id)
        if upload.expires_at <= self._clock.wall():
            raise _ended(upload_id, EXPIRED)
        return upload

    def _incoming(self, upload: StoredUpload, key: str, most_bytes: int) -> Incoming:
        return Incoming(
            self._store,
            self._blobs,
            key,
            tenant=upload.tenant,
            most_bytes=most_bytes,
            quota=None,
            drop=self._drop,
        )


def _open_upload(tx: Connection, tenant: str, upload_id: str) -> StoredUpload:
    upload = find_upload(tx, tenant, upload_id)
    if upload is None:
        raise NotFound(f"There is no upload {upload_id!r}.")
    if upload.status != PENDING:
        raise _ended(upload_id, upload.status)
    return upload


def _ended(upload_id: str, status: str) -> InvalidRequest:
    return InvalidRequest(f"The upload {upload_id!r} is {status}.")


def _chosen(upload: StoredUpload, parts: Mapping[str, StoredPart], part_ids: Sequence[str]) -> list[StoredPart]:
    """The parts in the wanted order, which must be the announced bytes together."""
    unknown = next((each for each in part_ids if each not in parts), None)
    if unknown is not None:
        raise InvalidRequest(f"`part_ids` has {unknown!r}, which is no part of this upload", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise InvalidRequest("`part_ids` has a part twice", param="part_ids")
    together = sum(parts[each].bytes for each in part_ids)
    if together != upload.bytes:
        message = f"the parts are {together} bytes together, and {upload.bytes} were announced"
        raise InvalidRequest(message, param="part_ids")
    return [parts[each] for each in part_ids]
