"""Usage rows on their way to the store: collected, and written in batches.

One batch is on its way at a time and keeps its name when it has to be tried again, so that the store can tell a
repetition. What waits is bounded: when the store is away for long, `full` says that no new work should begin.
"""

import threading
from concurrent.futures import Future

from pileus.core.errors import Unavailable
from pileus.core.ids import new_id
from pileus.core.records import UsageRecord
from pileus.store.port import Store
from pileus.store.tables import UsageTable

BATCH_ROWS = 512
WAITING_LIMIT = 100_000  # rows; some 50 MB


class UsageJournal:
    """Takes rows at once from the event loop; writes when a batch is full and at every `flush`."""

    def __init__(self, store: Store, *, batch_rows: int = BATCH_ROWS, waiting_limit: int = WAITING_LIMIT) -> None:
        self._store = store
        self._table = UsageTable()
        self._batch_rows = batch_rows
        self._waiting_limit = waiting_limit
        self._lock = threading.Lock()  # the writer's thread reports here
        self._waiting: list[UsageRecord] = []
        self._batch: tuple[str, list[UsageRecord]] | None = None  # handed over, or to be tried again
        self._written: Future[None] | None = None  # set while a batch is on its way

    @property
    def full(self) -> bool:
        """True while more rows wait than should."""
        return len(self._waiting) >= self._waiting_limit

    async def after(self, sequence: int, limit: int) -> list[tuple[int, UsageRecord]]:
        """Written rows with their sequence numbers, from the first after that one on, oldest first."""
        return await self._store.read(lambda tx: self._table.after(tx, sequence, limit))

    def append(self, record: UsageRecord) -> None:
        """Take a row; never blocks, never refuses."""
        self._waiting.append(record)
        if len(self._waiting) >= self._batch_rows and self._written is None:
            self.flush()

    def flush(self) -> Future[None] | None:
        """Hand the next batch to the store, unless one is on its way. `None` where nothing is to be waited for."""
        with self._lock:
            if self._written is not None:
                return self._written
            if self._batch is None:
                rows, self._waiting = self._waiting[: self._batch_rows], self._waiting[self._batch_rows :]
                self._batch = (new_id("batch"), rows) if rows else None
            if self._batch is None:
                return None
            name, rows = self._batch
            try:
                self._written = self._store.submit(lambda tx: self._table.insert(tx, name, rows))
            except Unavailable:
                return None
            written = self._written
        written.add_done_callback(self._arrived)
        return written

    def close(self) -> int:
        """Write all that waits, for a clean end; call before the store is closed. The number of rows that could not
        be written."""
        while (written := self.flush()) is not None and written.exception() is None:
            self._arrived(written)
        return len(self._waiting) + (len(self._batch[1]) if self._batch else 0)

    def _arrived(self, written: Future[None]) -> None:
        with self._lock:
            if self._written is not written:
                return
            self._written = None
            if written.exception() is None:
                self._batch = None
