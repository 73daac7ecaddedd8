"""The store as other rooms see it: a place where pieces of work run in a transaction.

A piece of work is a function of a connection; it runs whole or not at all. The tables (`store.tables`) are what it
calls. One adapter is `store.sqlite.SqliteStore`.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from sqlalchemy import Connection

Result = TypeVar("Result")
Work = Callable[[Connection], Result]


class Store(Protocol):
    """Durable state. A write is durable once its future is done.

    All of these raise `Unavailable` while the disk is full, the store is locked by someone else, or more work waits
    than the queue holds; the next write tries again by itself.
    """

    def submit(self, work: Work[Result]) -> Future[Result]:
        """Queue a write; never blocks, from any thread."""
        ...

    async def write(self, work: Work[Result]) -> Result:
        """Write, without blocking the event loop. Once queued it is not taken back, also when the caller leaves."""
        ...

    def write_blocking(self, work: Work[Result]) -> Result:
        """Write from a thread that may wait; the wait is bounded."""
        ...

    async def read(self, work: Work[Result]) -> Result:
        """Read, in a thread, from the last committed state."""
        ...

    def read_blocking(self, work: Work[Result]) -> Result:
        """Read from a thread that may wait."""
        ...
