"""One admitted request, whatever it wants of its model: its place in the queue or on a replica, and its one ending.

It ends by its answer, a failure, its deadline, or because its caller left. What the answer is made of is known by those
that derive from it: `generation` and `encoding`.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol

from pileus.core.clock import Clock
from pileus.core.errors import DeadlineExceeded, EngineFailed, Overloaded, PileusError, Quarantined
from pileus.core.records import Continuation, EncodingRequest, GenerationRequest, Lane, Principal, Started
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.pulse import Pulse
from pileus.gateway.reader import Reader
from pileus.gateway.records import Timings, Usage
from pileus.gateway.stopwatch import Stopwatch

_MOST_DEATHS = 2  # a request that was there at two deaths is not tried a third time


class Scheduler(Protocol):
    """What decides when and where a deployment's generations run: in this process, or through the one that does."""

    pulse: Pulse

    async def admit(self, pending: "Pending") -> None:
        """Reserve its worst case and queue it. Raises `QuotaExceeded` or `Overloaded`; then it is settled."""

    def requeue(self, pending: "Pending", lost: ReplicaLink | None) -> None:
        """Ahead of all others: its replica was lost, which is `lost` where it had come so far."""

    def withdraw(self, pending: "Pending") -> None:
        """It does not want its place in the queue any more; no-op if it has none."""

    def started(self, pending: "Pending") -> None:
        """Its replica has computed its prompt."""

    def ended(self, pending: "Pending", outcome: str) -> None:
        """Settle it: a finish reason, or an error's code. Called once."""


class Pending(ABC):
    """Belongs to the event loop's thread. Meets `dispatch.Dispatched`."""

    def __init__(
        self,
        request: GenerationRequest | EncodingRequest,
        principal: Principal,
        deployment: str,
        scheduler: Scheduler,
        clock: Clock,
        began: float,
    ) -> None:
        self.request = request
        self.principal = principal
        self.deployment = deployment
        self.created = int(clock.wall())
        self.stopwatch = Stopwatch(clock.monotonic, began)
        self._scheduler = scheduler
        self._now = clock.monotonic
        self._placed: tuple[ReplicaLink, int] | None = None
        self._deaths = 0
        self._error: PileusError | None = None
        self._ended = False
        self._reader = Reader(scheduler.pulse, clock.monotonic)
        self._deadline: asyncio.TimerHandle | None = None
        self._due = None if request.deadline_s is None else began + request.deadline_s

    # --- what it is of ----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def usage(self) -> Usage:
        """Exact once it has ended."""

    @property
    @abstractmethod
    def prompt_tokens(self) -> int: ...

    @property
    @abstractmethod
    def choices(self) -> int: ...

    @property
    @abstractmethod
    def emitted(self) -> tuple[int, ...]:
        """How many tokens each unfinished choice has said."""

    @property
    @abstractmethod
    def max_answer_tokens(self) -> int:
        """Of each choice."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """Its prompt's blocks, as `scheduling.prefixes` names them."""
        return ()

    @property
    def adapter(self) -> str:
        """The name of the adapter that it is for; empty is the model itself."""
        return ""

    @property
    @abstractmethod
    def _said(self) -> bool:
        """Whether anything has come of its answer."""

    @abstractmethod
    def _send(self, link: ReplicaLink, lane: Lane) -> int:
        """Ask the replica for what is not answered yet; the request's id there."""

    @abstractmethod
    def _collect(self) -> None:
        """Make ready for its reader what has come."""

    # --- for the edge -----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """The caller left: slot, blocks or queue place come back at once. No-op after the end."""
        if not self._ended:
            self._leave()
            self._end("cancelled")

    @property
    def replica(self) -> ReplicaLink | None:
        """Where it is, or was at its end."""
        return None if self._placed is None else self._placed[0]

    @property
    def timings(self) -> Timings:
        """Up to now, or to the end."""
        return self.stopwatch.timings

    # --- for scheduling ---------------------------------------------------------------------------------------------

    @property
    def tenant(self) -> str:
        return self.principal.tenant

    @property
    def lane(self) -> Lane:
        return self.request.lane

    @property
    def priority(self) -> int:
        return self.request.priority

    @property
    def due(self) -> float | None:
        return self._due

    @property
    def unfinished(self) -> int:
        """Of its choices."""
        return len(self.emitted)

    @property
    def known_tokens(self) -> int:
        return self.prompt_tokens + sum(self.emitted)

    def watch_deadline(self, timeout_s: float) -> None:
        """End it with an error if it takes longer, from now."""
        if not self._ended:
            self._deadline = asyncio.get_running_loop().call_later(timeout_s, self._expire, timeout_s)

    def explained(self, refusal: Overloaded) -> Overloaded:
        """The refusal with the deadline that may be why."""
        deadline_s = self.request.deadline_s
        if deadline_s is None:
            return refusal
        text = f"{refusal.message} The deadline of this request is {deadline_s:g} s."
        told = type(refusal)(text, retry_after_s=refusal.retry_after_s)
        told.settled = refusal.settled
        return told

    def on_placed(self, link: ReplicaLink, lane: Lane) -> None:
        self._placed = (link, self._send(link, lane))
        self.stopwatch.placed()

    def on_displaced(self, refusal: Overloaded) -> None:
        self._fail(self.explained(refusal))

    def on_expired(self) -> None:
        if self._due is not None and self._now() >= self._due:
            deadline_s = self.request.deadline_s
            self._fail(DeadlineExceeded(f"The deadline of {deadline_s:g} s passed while the request was waiting."))
            return
        waited_s = self.stopwatch.waited_s
        self._fail(Overloaded(f"No replica of {self.deployment} had room within {waited_s:.3g} s.", retry_after_s=1.0))

    def on_preempted(self) -> ReplicaLink:
        assert self._placed is not None
        (link, wire_id), self._placed = self._placed, None
        link.cancel(wire_id)
        self.stopwatch.queued_again()
        return link

    # --- for the replica --------------------------------------------------------------------------------------------

    def on_started(self, started: Started) -> None:
        self.stopwatch.started(started)
        self._scheduler.started(self)

    def on_lost(self, reason: str) -> None:
        """Resume elsewhere from prompt and emitted tokens, where the engine can and it is not this request's fault."""
        if self._ended:
            return
        link, self._placed = self._placed, None
        self._deaths += link is None or not link[0].draining  # to be drained is no death
        continuable = link is None or link[0].capabilities.continuation is Continuation.CONTINUABLE
        if self._deaths >= _MOST_DEATHS:
            self._fail(Quarantined(f"{self._deaths} replicas were lost while they worked on it, the last: {reason}."))
            return
        if self._said and not continuable:
            self._fail(EngineFailed(f"The replica was lost: {reason}."))
            return
        self.stopwatch.queued_again()
        self._scheduler.requeue(self, link[0] if link else None)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _expire(self, timeout_s: float) -> None:
        self._deadline = None
        self._fail(DeadlineExceeded(f"The request did not finish within {timeout_s:g} s."))

    def _leave(self) -> None:
        """Give up the slot or the queue place."""
        if self._placed is None:
            self._scheduler.withdraw(self)
        else:
            link, wire_id = self._placed
            link.cancel(wire_id)

    def _fail(self, error: PileusError) -> None:
        self._collect()  # it is handed on before the error, and so it is on the bill
        if not self._ended:
            error.settled = True
            self._error = error
            self._leave()
            self._end(error.code)

    def _end(self, outcome: str) -> None:
        self._ended = True
        self.stopwatch.end()
        if self._deadline is not None:
            self._deadline.cancel()
        self._scheduler.ended(self, outcome)
        self._reader.wake()
