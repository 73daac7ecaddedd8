"""The record of who did what, and of what was refused.

An act is recorded before it takes effect, and one that cannot be recorded does not happen. A refusal has no effect
that could run ahead of its record, and an attacker can cause any number of them: so refusals are written in the
background, and those beyond the bound are counted in one event instead of stored one by one.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from pileus.core.clock import Clock
from pileus.core.errors import OperatorError, PileusError, Unavailable
from pileus.core.records import AuditEvent
from pileus.observability.events import escape, get_log
from pileus.store.port import Store
from pileus.store.tables import AuditTable

log = get_log(__name__)

SYSTEM = "system"
PENDING_LIMIT = 256  # refusals between two writes

_TEXT_LIMIT = 200  # characters of one field; names come from callers


class AuditLog:
    """See `core.ports.AuditSink`. Call `flush` every second."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._table = AuditTable()
        self._lock = threading.Lock()
        self._refusals: list[AuditEvent] = []
        self._beyond: Counter[str] = Counter()  # action -> refusals that were only counted

    def record(self, event: AuditEvent) -> None:
        """Durable when this returns; waits for the disk, so not for the event loop."""
        self._store.write_blocking(lambda tx: self._table.insert(tx, [clean(event)]))

    async def record_async(self, event: AuditEvent) -> None:
        """Durable when this returns."""
        await self._store.write(lambda tx: self._table.insert(tx, [clean(event)]))

    @contextmanager
    def server_run(self, target: str) -> Iterator[None]:
        """A server's run, with its start and its end on record; raises `OperatorError` where that cannot begin.

        A stop that cannot be recorded still happens: a server that cannot be stopped is no safer. The log tells it.
        """
        try:
            self.record(self._system("server.start", target))
        except Unavailable as error:
            raise OperatorError(f"the audit cannot be written, so the server does not start: {error.message}") from None
        outcome = "internal_error"
        try:
            yield
            outcome = "ok"
        except PileusError as error:
            outcome = error.code
            raise
        finally:
            try:
                self.record(self._system("server.stop", target, outcome))
            except Unavailable as error:
                log.error("audit.lost", action="server.stop", reason=error.message)

    def refused(self, event: AuditEvent) -> None:
        """Note a refusal; immediate, and bounded whatever comes in."""
        with self._lock:
            if len(self._refusals) < PENDING_LIMIT:
                self._refusals.append(clean(event))
            else:
                self._beyond[event.action] += 1

    def found(self, action: str, target: str) -> None:
        """Note what the server found out by itself; immediate, as a refusal."""
        self.refused(self._system(action, target))

    def flush(self) -> Future[None] | None:
        """Hand the refusals to the store. They wait for the next call where it cannot take them."""
        with self._lock:
            events, beyond = self._refusals, self._beyond
            self._refusals, self._beyond = [], Counter()
        batch = [*events, *self._summaries(beyond)]
        if not batch:
            return None
        try:
            written = self._store.submit(lambda tx: self._table.insert(tx, batch))
        except Unavailable:
            self._put_back(events, beyond)
            return None
        written.add_done_callback(lambda done: self._put_back(events, beyond) if done.exception() else None)
        return written

    def close(self) -> None:
        """Write the refusals that wait, as far as the store can take them; call before the store is closed."""
        if written := self.flush():
            written.exception()

    async def latest(self, limit: int, action: str | None = None) -> list[tuple[int, AuditEvent]]:
        """The newest events with their sequence numbers, newest first."""
        return await self._store.read(lambda tx: self._table.latest(tx, limit, action))

    def _summaries(self, beyond: Counter[str]) -> list[AuditEvent]:
        return [self._system(action, f"{n} more", "not_stored") for action, n in beyond.items()]

    def _system(self, action: str, target: str, outcome: str = "ok") -> AuditEvent:
        """An event of no caller's making."""
        return AuditEvent(at=self._clock.wall(), actor=SYSTEM, tenant="", action=action, target=target, outcome=outcome)

    def _put_back(self, events: Sequence[AuditEvent], beyond: Counter[str]) -> None:
        with self._lock:
            room = PENDING_LIMIT - len(self._refusals)
            self._refusals[:0] = events[:room]
            self._beyond.update(beyond)
            self._beyond.update(event.action for event in events[room:])


def clean(event: AuditEvent) -> AuditEvent:
    """The event as it may be stored: bounded, and without control characters that could forge a line elsewhere."""
    return AuditEvent(
        at=event.at,
        actor=_safe(event.actor),
        tenant=_safe(event.tenant),
        action=_safe(event.action),
        target=_safe(event.target),
        outcome=_safe(event.outcome),
        request_id=_safe(event.request_id),
    )


def _safe(text: str) -> str:
    return escape(text[:_TEXT_LIMIT])[:_TEXT_LIMIT]
