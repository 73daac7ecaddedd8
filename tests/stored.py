"""What the store holds, read beside the product."""

from pileus.core.records import UsageRecord
from pileus.store.sqlite import SqliteStore
from pileus.store.tables import UsageTable

_ALL = 10**9


def usage_rows(store: SqliteStore) -> list[UsageRecord]:
    """Every usage row, oldest first."""
    return [record for _, record in store.read_blocking(lambda tx: UsageTable().after(tx, 0, _ALL))]
