"""When something must happen to those that wait: a heap of entries by time."""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from pileus.scheduling.lanes import Entry, Waiting

_LEAST_STALE = 64  # not worth clearing away

T = TypeVar("T", bound=Waiting)


class Deadlines(Generic[T]):
    """Entries that have left the queue are skipped, and forgotten before they are more than those that wait. Times are
    monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry[T]]] = []

    def add(self, at: float, entry: Entry[T], waiting: int) -> None:
        """`waiting` is the size of the queue."""
        heappush(self._heap, (at, entry.key[-1], entry))
        if len(self._heap) > _LEAST_STALE + 2 * waiting:
            self._heap = [item for item in self._heap if item[2].waits]
            heapify(self._heap)

    def next(self) -> float | None:
        """The earliest."""
        while self._heap and not self._heap[0][2].waits:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Entry[T] | None:
        """The next whose time has come, which is taken out."""
        at = self.next()
        return heappop(self._heap)[2] if at is not None and at <= now else None
