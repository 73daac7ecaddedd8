"""The one thread that writes, with the one connection that may.

Whatever waits when the thread comes round is committed together: many small writes share one fsync. Each piece of work
has a savepoint of its own, so that one that fails takes nothing of its neighbours with it; a failure of the database
itself (disk full, I/O error, locked by someone else) fails the group, and the connection is given up and made anew,
for after a failed fsync its state cannot be trusted.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError

from pileus.core.errors import Unavailable
from pileus.observability.events import get_log
from pileus.store.port import Result, Work

log = get_log(__name__)

GROUP_LIMIT = 512  # pieces of work in one commit
RETRY_AFTER_S = 2.0


class _Unit(Struct, frozen=True):
    work: Work[Any]
    future: Future[Any]


class Writer:
    """Runs pieces of work in transactions, in the order in which they came."""

    def __init__(self, connect: Callable[[], Connection], waiting_limit: int) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._waiting: queue.Queue[_Unit | None] = queue.Queue(waiting_limit)
        self._open = True
        self._gate = threading.Lock()  # nothing enters the queue behind the end marker
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work[Result]) -> Future[Result]:
        """Queue a piece of work; its result comes once it is durable. Raises `Unavailable` when the queue is full."""
        future: Future[Result] = Future()
        with self._gate:
            if not self._open:
                raise Unavailable("The store is closed.", retry_after_s=RETRY_AFTER_S)
            try:
                self._waiting.put_nowait(_Unit(work, future))
            except queue.Full:
                raise Unavailable("The store cannot keep up.", retry_after_s=RETRY_AFTER_S) from None
        return future

    def close(self) -> None:
        """Finish what waits, then stop. Harmless when done twice."""
        with self._gate:
            was_open, self._open = self._open, False
        if was_open:
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            units = [unit for unit in group if unit.future.set_running_or_notify_cancel()]
            if units:
                self._commit(units)
        self._give_up_connection()

    def _next_group(self) -> tuple[list[_Unit], bool]:
        """All that waits, at least one; true when it is the last."""
        group: list[_Unit] = []
        unit = self._waiting.get()
        while unit is not None:
            group.append(unit)
            if len(group) == GROUP_LIMIT:
                return group, False
            try:
                unit = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, units: Sequence[_Unit]) -> None:
        try:
            outcomes = self._transact(units)
        except DBAPIError as error:
            self._give_up_connection()
            reason = unavailable("write to", error)
            log.error("store.write_failed", reason=str(error.orig), refused=len(units))
            for unit in units:
                unit.future.set_exception(reason)
            return
        for unit, (result, failure) in zip(units, outcomes, strict=True):
            if failure is None:
                unit.future.set_result(result)
            else:
                unit.future.set_exception(failure)

    def _transact(self, units: Sequence[_Unit]) -> list[tuple[Any, Exception | None]]:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.begin():
            return [_attempt(self._connection, unit.work) for unit in units]

    def _give_up_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def _attempt(connection: Connection, work: Work[Any]) -> tuple[Any, Exception | None]:
    """One piece of work in its savepoint: its result, or what it raised.

    The database's own failures go through, savepoint and all: on a full disk SQLite has rolled the transaction back.
    """
    savepoint = connection.begin_nested()
    try:
        result = work(connection)
    except DatabaseError as error:
        if not isinstance(error, IntegrityError):
            raise
        failure: Exception = error
    except Exception as error:  # noqa: BLE001 - the thread's edge: whoever waits for the work gets it
        failure = error
    else:
        savepoint.commit()
        return result, None
    savepoint.rollback()
    return None, failure


def unavailable(doing: str, error: DBAPIError) -> Unavailable:
    """What a caller is told when the database fails; the reason is SQLite's own, e.g. `database or disk is full`."""
    return Unavailable(f"Pileus cannot {doing} its store: {error.orig}.", retry_after_s=RETRY_AFTER_S)
