"""One admitted request: it hears the replica's tokens and hands their text to whoever asked.

Callbacks from the replica only note what came; text is made when it is asked for, so what arrives while the reader is
busy becomes one delta. Every generation ends exactly once: by its last choice's finish, a failure, its deadline, or
because its caller left.
"""

import asyncio
from typing import Protocol

from pileus.core.clock import Clock
from pileus.core.errors import DeadlineExceeded, EngineFailed, Overloaded, PileusError, Quarantined
from pileus.core.ports import Tokenizer
from pileus.core.records import (
    ChoiceState,
    Continuation,
    Emission,
    EngineRequest,
    Finish,
    FinishReason,
    Lane,
    Started,
)
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.pulse import Pulse
from pileus.gateway.reader import Reader
from pileus.gateway.records import Delta, Timings, Usage, Work
from pileus.gateway.stopwatch import Stopwatch
from pileus.gateway.stream import ChoiceStream

_MOST_DEATHS = 2  # a request that was there at two deaths is not tried a third time


class Scheduler(Protocol):
    """What decides when and where a deployment's generations run: in this process, or through the one that does."""

    pulse: Pulse

    async def admit(self, generation: "Generation") -> None:
        """Reserve its worst case and queue it. Raises `QuotaExceeded` or `Overloaded`; then it is settled."""

    def requeue(self, generation: "Generation", lost: ReplicaLink | None) -> None:
        """Ahead of all others: its replica was lost, which is `lost` where it had come so far."""

    def withdraw(self, generation: "Generation") -> None:
        """It does not want its place in the queue any more; no-op if it has none."""

    def started(self, generation: "Generation") -> None:
        """Its replica has computed its prompt."""

    def ended(self, generation: "Generation", outcome: str) -> None:
        """Settle it: a finish reason, or an error's code. Called once."""


class Generation:
    """An answer in the making. Belongs to the event loop's thread."""

    def __init__(self, work: Work, tokenizer: Tokenizer, scheduler: Scheduler, clock: Clock, began: float) -> None:
        options = work.request.options
        self.work = work
        self.deployment = work.deployment
        self.created = int(clock.wall())
        self.stopwatch = Stopwatch(clock.monotonic, began)
        self._scheduler = scheduler
        self._now = clock.monotonic
        self._choices = [
            ChoiceStream(index, tokenizer, options.stop, logprobs=work.params.logprobs is not None)
            for index in range(options.n)
        ]
        self._unfinished = options.n
        self._placed: tuple[ReplicaLink, int] | None = None
        self._deaths = 0
        self._cached_tokens: int | None = None
        self._ready: list[Delta] = []
        self._error: PileusError | None = None
        self._ended = False
        self._reader = Reader(scheduler.pulse, clock.monotonic)
        self._deadline: asyncio.TimerHandle | None = None
        deadline_s = work.request.deadline_s
        self._due = None if deadline_s is None else began + deadline_s

    # --- for the edge -----------------------------------------------------------------------------------------------

    async def next(self, *, whole: bool = False) -> list[Delta]:
        """Everything that has come since the last call; empty at the end. Raises the failure.

        Waits for something or, with `whole`, for the end: a reader that shows nothing before is not woken for each
        token. (Stop strings must be looked for as tokens come, so with these it is.)
        """
        self._reader.patient = whole and not self.work.request.options.stop
        while True:
            if not self._reader.patient and not self._ended:
                self._collect()
            if self._ready:
                deltas, self._ready = self._ready, []
                self._reader.given()
                return deltas
            if self._error is not None:
                raise self._error
            if self._ended:
                return []
            await self._reader.wait()

    def cancel(self) -> None:
        """The caller left: slot, blocks or queue place come back at once. No-op after the end."""
        if not self._ended:
            self._leave()
            self._end("cancelled")

    @property
    def usage(self) -> Usage:
        """Exact once the generation has ended."""
        return Usage(self.prompt_tokens, self._cached_tokens or 0, sum(choice.delivered for choice in self._choices))

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
        return self.work.principal.tenant

    @property
    def lane(self) -> Lane:
        return self.work.request.lane

    @property
    def priority(self) -> int:
        return self.work.request.priority

    @property
    def due(self) -> float | None:
        return self._due

    @property
    def choices(self) -> int:
        return len(self._choices)

    @property
    def unfinished(self) -> int:
        return self._unfinished

    @property
    def prompt_tokens(self) -> int:
        return len(self.work.prompt)

    @property
    def emitted(self) -> tuple[int, ...]:
        """How many tokens each unfinished choice has said."""
        return tuple(len(choice.emitted) for choice in self._choices if choice.finish is None)

    @property
    def known_tokens(self) -> int:
        return self.prompt_tokens + sum(self.emitted)

    @property
    def max_answer_tokens(self) -> int:
        return self.work.params.max_tokens

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.work.prefix

    def watch_deadline(self, timeout_s: float) -> None:
        """End it with an error if it takes longer, from now."""
        if not self._ended:
            self._deadline = asyncio.get_running_loop().call_later(timeout_s, self._expire, timeout_s)

    def explained(self, refusal: Overloaded) -> Overloaded:
        """The refusal with the deadline that may be why."""
        deadline_s = self.work.request.deadline_s
        if deadline_s is None:
            return refusal
        text = f"{refusal.message} The deadline of this request is {deadline_s:g} s."
        told = type(refusal)(text, retry_after_s=refusal.retry_after_s)
        told.settled = refusal.settled
        return told

    def on_placed(self, link: ReplicaLink, lane: Lane) -> None:
        self._placed = (link, link.submit(self._engine_request(lane), self))
        self.stopwatch.placed()

    def on_displaced(self, refusal: Overloaded) -> None:
        self._fail(self.explained(refusal))

    def on_expired(self) -> None:
        if self._due is not None and self._now() >= self._due:
            deadline_s = self.work.request.deadline_s
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
        if self._cached_tokens is None:
            self._cached_tokens = started.cached_tokens

    def on_emission(self, emission: Emission) -> None:
        choice = self._choices[emission.choice]
        if choice.finish is not None:
            return
        choice.heard_at = self.stopwatch.heard(choice.heard_at)
        choice.take(emission)
        self._reader.wake_soon(choice.heard_at)

    def on_finish(self, finish: Finish) -> None:
        choice = self._choices[finish.choice]
        self.stopwatch.finished(finish.decode_s)
        if choice.finish is not None or self._ended:
            return
        if finish.reason in (FinishReason.ERROR, FinishReason.CANCELLED):
            self._fail(EngineFailed(finish.error or "The engine gave this request up."))
            return
        if self.work.request.options.stop:
            self._collect()  # the last tokens may complete a stop string, which is then the reason
        if choice.finish is None:
            self._close(choice, finish.reason)
        if not self._reader.patient:
            self._reader.wake()

    def on_lost(self, reason: str) -> None:
        """Resume elsewhere from prompt and emitted tokens, where the engine can and it is not this request's fault."""
        if self._ended:
            return
        link, self._placed = self._placed, None
        self._deaths += link is None or not link[0].draining  # to be drained is no death
        said = any(choice.emitted for choice in self._choices)
        continuable = link is None or link[0].capabilities.continuation is Continuation.CONTINUABLE
        if self._deaths >= _MOST_DEATHS:
            self._fail(Quarantined(f"{self._deaths} replicas were lost while they worked on it, the last: {reason}."))
            return
        if said and not continuable:
            self._fail(EngineFailed(f"The replica was lost: {reason}."))
            return
        self.stopwatch.queued_again()
        self._scheduler.requeue(self, link[0] if link else None)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _engine_request(self, lane: Lane) -> EngineRequest:
        """The unfinished choices, continued from what they have said."""
        work = self.work
        choices = tuple(
            ChoiceState(choice.index, tuple(choice.emitted)) for choice in self._choices if choice.finish is None
        )
        adapter = "" if work.adapter is None else work.adapter.id
        return EngineRequest(0, work.prompt, work.params, choices, work.salt, lane, adapter)

    def _collect(self) -> None:
        """Turn what has come into deltas; a stop string in it ends its choice."""
        for choice in self._choices:
            delta = choice.collect()
            if delta is not None:
                self._ready.append(delta)
            if choice.stopped and choice.finish is None:
                self._close(choice, FinishReason.STOP)
                self._leave_alone(choice)

    def _close(self, choice: ChoiceStream, reason: FinishReason) -> None:
        choice.finish = reason
        self._unfinished -= 1
        if self._unfinished == 0:
            self._collect()
            self._leave()
            self._end(max(other.finish for other in self._choices if other.finish is not None))

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

    def _leave_alone(self, choice: ChoiceStream) -> None:
        """The engine shall not go on with a choice whose answer is complete, when others are not."""
        if self._placed is not None and not self._ended:
            link, wire_id = self._placed
            link.cancel_choice(wire_id, choice.index)

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
