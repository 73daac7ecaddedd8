"""The statements of `file`, `upload` and `upload_part`, and who refers to a blob.

Every function runs inside a transaction that the caller opened (`store.port.Work`).
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct, structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from pileus.store import schema
from pileus.store.job_table import ENDED, JobState

PENDING: Final = "pending"  # an upload that takes parts
_OVER: Final = (JobState.SUCCEEDED, JobState.CANCELLED, JobState.EXPIRED)  # one that failed can be resumed
_AT_ONCE: Final = 5000  # values in one statement


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file as people see it; `blob` is the key of its content."""

    id: str
    tenant: str
    key_id: str  # who stored it
    filename: str
    purpose: str
    bytes: int
    sha256: str
    blob: str
    created_at: float
    expires_at: float | None = None


class StoredUpload(Struct, frozen=True, kw_only=True):
    """A file that comes in parts, or came."""

    id: str
    tenant: str
    key_id: str
    filename: str
    purpose: str
    bytes: int  # as announced
    status: str
    created_at: float
    expires_at: float
    file_expires_s: float | None = None
    file_id: str | None = None


class StoredPart(Struct, frozen=True, kw_only=True):
    """One piece of an upload."""

    id: str
    upload_id: str
    bytes: int
    blob: str
    created_at: float


class Place(NamedTuple):
    """Where a file stands in the list."""

    created_at: float
    id: str


class Use(NamedTuple):
    """What a tenant has stored."""

    bytes: int
    files: int  # and parts of pending uploads


# --- files ---


def insert_file(tx: Connection, file: StoredFile) -> None:
    """Its content must be durable by now."""
    tx.execute(insert(schema.file), structs.asdict(file))


def find_file(tx: Connection, tenant: str, file_id: str, now: float) -> StoredFile | None:
    """One that has not expired.

    Whoever lets a job refer to its blob reads it in the transaction that inserts the job: then it cannot be deleted in
    between.
    """
    table = schema.file
    query = select(table).where(table.c.id == file_id, table.c.tenant == tenant, _alive(now))
    row = tx.execute(query).mappings().one_or_none()
    return StoredFile(**row) if row is not None else None


def page_of_files(
    tx: Connection, tenant: str, now: float, limit: int, *, after: Place | None, newest_first: bool, purpose: str
) -> list[StoredFile]:
    """Up to so many, in the order of their creation, from the first behind `after` on; an empty purpose is any."""
    table = schema.file
    query = select(table).where(table.c.tenant == tenant, _alive(now)).limit(limit)
    if purpose:
        query = query.where(table.c.purpose == purpose)
    at, key = table.c.created_at, table.c.id
    if after is not None:
        beside = key < after.id if newest_first else key > after.id
        beyond = at < after.created_at if newest_first else at > after.created_at
        query = query.where(or_(beyond, and_(at == after.created_at, beside)))
    query = query.order_by(at.desc(), key.desc()) if newest_first else query.order_by(at, key)
    return [StoredFile(**row) for row in tx.execute(query).mappings()]


def place_of_file(tx: Connection, tenant: str, file_id: str) -> Place | None:
    """Also of one that is gone, until `forget_gone_files`."""
    tables = (schema.file, schema.gone_file)
    queries = [
        select(table.c.created_at, table.c.id).where(table.c.id == file_id, table.c.tenant == tenant)
        for table in tables
    ]
    row = tx.execute(union_all(*queries)).first()
    return None if row is None else Place(*row)


def delete_file(tx: Connection, tenant: str, file_id: str, now: float) -> StoredFile | None:
    """What was deleted, if anything was."""
    found = find_file(tx, tenant, file_id, now)
    if found is not None:
        _delete_files(tx, schema.file.c.id == file_id, now)
    return found


def delete_expired_files(tx: Connection, now: float) -> list[str]:
    """The keys of their blobs."""
    table = schema.file
    expired = table.c.expires_at <= now
    keys = list(tx.execute(select(table.c.blob).where(expired)).scalars())
    if keys:
        _delete_files(tx, expired, now)
    return keys


def forget_gone_files(tx: Connection, before: float) -> None:
    """Those that went before that time."""
    tx.execute(delete(schema.gone_file).where(schema.gone_file.c.gone_at < before))


def _delete_files(tx: Connection, which: ColumnElement[bool], now: float) -> None:
    table, gone = schema.file, schema.gone_file
    rows = select(table.c.id, table.c.tenant, table.c.created_at, literal(now)).where(which)
    tx.execute(insert(gone).prefix_with("OR REPLACE").from_select(["id", "tenant", "created_at", "gone_at"], rows))
    tx.execute(delete(table).where(which))


def tenant_use(tx: Connection, tenant: str) -> Use:
    """Of its files, and of its pending uploads: as announced, or more where more came."""
    file, upload, part = schema.file, schema.upload, schema.upload_part
    size = func.coalesce(func.sum(file.c.bytes), 0)
    stored, files = tx.execute(select(size, func.count()).where(file.c.tenant == tenant)).one()
    pending = (
        select(upload.c.bytes, func.coalesce(func.sum(part.c.bytes), 0), func.count(part.c.upload_id))
        .join(part, part.c.upload_id == upload.c.id, isouter=True)
        .where(upload.c.tenant == tenant, upload.c.status == PENDING)
        .group_by(upload.c.id, upload.c.bytes)
    )
    for announced, came, parts in tx.execute(pending):
        stored += max(announced, came)
        files += max(1, parts)
    return Use(int(stored), int(files))


def _alive(now: float) -> ColumnElement[bool]:
    expires_at = schema.file.c.expires_at
    return or_(expires_at.is_(None), expires_at > now)


# --- uploads ---


def insert_upload(tx: Connection, upload: StoredUpload) -> None:
    tx.execute(insert(schema.upload), structs.asdict(upload))


def find_upload(tx: Connection, tenant: str, upload_id: str) -> StoredUpload | None:
    table = schema.upload
    row = tx.execute(select(table).where(table.c.id == upload_id, table.c.tenant == tenant)).mappings().one_or_none()
    return StoredUpload(**row) if row is not None else None


def insert_part(tx: Connection, part: StoredPart) -> None:
    tx.execute(insert(schema.upload_part), structs.asdict(part))


def parts_of(tx: Connection, upload_id: str) -> dict[str, StoredPart]:
    """By id."""
    table = schema.upload_part
    rows = tx.execute(select(table).where(table.c.upload_id == upload_id)).mappings()
    return {row["id"]: StoredPart(**row) for row in rows}


def sum_of_parts(tx: Connection, upload_id: str) -> tuple[int, int]:
    """How many there are, and their bytes together."""
    part = schema.upload_part
    query = select(func.count(), func.coalesce(func.sum(part.c.bytes), 0)).where(part.c.upload_id == upload_id)
    count, size = tx.execute(query).one()
    return int(count), int(size)


def end_upload(tx: Connection, upload_id: str, status: str, file_id: str | None = None) -> list[str]:
    """Give it its last status and forget its parts; the keys of their blobs."""
    table, part = schema.upload, schema.upload_part
    tx.execute(update(table).where(table.c.id == upload_id).values(status=status, file_id=file_id))
    keys = list(tx.execute(select(part.c.blob).where(part.c.upload_id == upload_id)).scalars())
    tx.execute(delete(part).where(part.c.upload_id == upload_id))
    return keys


def overdue_uploads(tx: Connection, now: float) -> list[str]:
    """Those that still take parts and should not any more."""
    table = schema.upload
    return list(tx.execute(select(table.c.id).where(table.c.status == PENDING, table.c.expires_at <= now)).scalars())


def forget_uploads(tx: Connection, before: float) -> None:
    """Those that have ended, and would have expired before that time."""
    table = schema.upload
    tx.execute(delete(table).where(table.c.status != PENDING, table.c.expires_at < before))


# --- blobs ---


def unreferenced(tx: Connection, keys: Iterable[str]) -> set[str]:
    """Those of these keys that no file, no part, and no job that may still be done refers to."""
    left = set(keys) - _job_blobs(tx)
    left -= _in_the_making(tx, left)
    for column in (schema.file.c.blob, schema.upload_part.c.blob):
        for some in _groups(sorted(left)):
            left.difference_update(tx.execute(select(column).where(column.in_(some))).scalars())
    return left


def _job_blobs(tx: Connection) -> set[str]:
    table = schema.job
    query = select(table.c.blobs).where(table.c.state.not_in(_OVER), table.c.blobs != "")
    return {key for text in tx.execute(query).scalars() for key in text.split(",")}


def _in_the_making(tx: Connection, keys: Iterable[str]) -> set[str]:
    """What batches write, however old it looks, until they end: then their rows are there."""
    table = schema.job
    batch_of = {key: key.split("/")[1] for key in keys if key.startswith("batches/")}
    open_ones: set[str] = set()
    for some in _groups(sorted(set(batch_of.values()))):
        query = select(table.c.id).where(table.c.id.in_(some), table.c.state.not_in(ENDED))
        open_ones.update(tx.execute(query).scalars())
    return {key for key, batch in batch_of.items() if batch in open_ones}


def _groups(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
