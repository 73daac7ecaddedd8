"""What the store holds, read and written beside the product."""

from sqlalchemy import Connection, LargeBinary, Text, insert

from pileus.core.records import UsageRecord
from pileus.store import schema
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import UsageTable

_ALL = 10**9


def usage_rows(store: SqliteStore) -> list[UsageRecord]:
    """Every usage row, oldest first."""
    return [record for _, record in store.read_blocking(lambda tx: UsageTable().after(tx, 0, _ALL))]


def insert_job(tx: Connection, job_id: str, state: str, blobs: str) -> None:
    """A job of which nothing else matters."""
    blanks = {Text: "", LargeBinary: b""}
    row = {
        column.name: blanks.get(type(column.type), 0)
        for column in schema.job.columns
        if not column.nullable and not column.primary_key
    }
    tx.execute(insert(schema.job), row | {"id": job_id, "state": state, "blobs": blobs})
