"""What the store holds, read beside the product: it writes a usage row for each request, and reads the sums only."""

from sqlalchemy import select

from pileus.core.records import Lane, UsageRecord
from pileus.store import schema
from pileus.store.sqlite import SqliteStore


def usage_rows(store: SqliteStore) -> list[UsageRecord]:
    """Every usage row, oldest first."""
    table = schema.usage
    query = select(*(table.c[name] for name in UsageRecord.__struct_fields__)).order_by(table.c.sequence)
    rows = store.read_blocking(lambda tx: tx.execute(query).mappings().all())
    return [UsageRecord(**{**row, "lane": Lane(row["lane"])}) for row in rows]
