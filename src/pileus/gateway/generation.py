"""One admitted request: it hears the replica's tokens and hands their text to whoever asked.

Callbacks from the replica only note what came; text is made when it is asked for, so what arrives while the reader is
busy becomes one delta. Every generation ends exactly once: by its last choice's finish, a failure, its deadline, or
because its caller left.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import DeadlineExceeded, EngineFailed, Overloaded, PileusError
from pileus.core.ports import Tokenizer
from pileus.core.records import (
    ChoiceState,
    Continuation,
    Emission,
    EngineRequest,
    Finish,
    FinishReason,
    GenerationRequest,
    Lane,
    SamplingParams,
    Started,
)
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.dispatch import Dispatcher
from pileus.gateway.pulse import LEAST_INTERVAL_S
from pileus.gateway.records import Delta, Timings, Usage
from pileus.gateway.stream import ChoiceStream
from pileus.observability.latency import LatencyCounts
from pileus.scheduling.admission import Refusal

_MOST_DEATHS = 2  # a request that was there at two deaths is not tried a third time


class Work(Struct, frozen=True):
    """What the pipeline worked out before admission."""

    request: GenerationRequest
    tenant: str
    deployment: str
    prompt: tuple[int, ...]
    params: SamplingParams
    salt: bytes


class Generation:
    """An answer in the making. Belongs to the event loop's thread."""

    def __init__(
        self,
        work: Work,
        tokenizer: Tokenizer,
        dispatcher: Dispatcher,
        clock: Clock,
        on_end: Callable[["Generation", str], None],
        began: float,
    ) -> None:
        self.request_id = work.request.id
        self.deployment = work.deployment
        self.created = int(clock.wall())
        self.prompt_tokens = len(work.prompt)
        self.intervals = LatencyCounts()
        self.ttft_s: float | None = None
        options = work.request.options
        self._work = work
        self._dispatcher = dispatcher
        self._now = clock.monotonic
        self._on_end = on_end
        self._choices = [
            ChoiceStream(index, tokenizer, options.stop, logprobs=work.params.logprobs is not None)
            for index in range(options.n)
        ]
        self._unfinished = options.n
        self._engine_request: EngineRequest | None = None
        self._placed: tuple[ReplicaLink, int] | None = None
        self._deaths = 0
        self._cached_tokens: int | None = None
        self._ready: list[Delta] = []
        self._error: PileusError | None = None
        self._ended_at: float | None = None
        self._reader: asyncio.Future[None] | None = None
        self._patient = False  # the reader waits for the end
        self._read_at: float | None = None  # when the reader last was given something
        self._due_at: float | None = None
        self._will_wake = False  # the reader, at the next beat
        self._deadline: asyncio.TimerHandle | None = None
        self._began = self._queued_at = began
        self._decoding_since: float | None = None  # on the present replica
        self._decoded_before_s = 0.0  # on those that were lost
        self._queue_s = self._prefill_s = self._decode_s = 0.0

    # --- for the edge -----------------------------------------------------------------------------------------------

    async def next(self, *, whole: bool = False) -> list[Delta]:
        """Everything that has come since the last call; empty at the end. Raises the failure.

        Waits for something or, with `whole`, for the end: a reader that shows nothing before is not woken for each
        token. (Stop strings must be looked for as tokens come, so with these it is.)
        """
        self._patient = whole and not self._work.request.options.stop
        while True:
            if not self._patient or self._ended_at is not None:
                self._collect()
            if self._ready:
                deltas, self._ready = self._ready, []
                self._read_at = self._now()
                return deltas
            if self._error is not None:
                raise self._error
            if self._ended_at is not None:
                return []
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def cancel(self) -> None:
        """The caller left: slot, blocks or queue place come back at once. No-op after the end."""
        if self._ended_at is None:
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
        total_s = (self._now() if self._ended_at is None else self._ended_at) - self._began
        gateway_s = max(0.0, total_s - self._queue_s - self._prefill_s - self._decode_s)
        return Timings(self._queue_s, self._prefill_s, self._decode_s, gateway_s, total_s)

    # --- for the dispatcher -----------------------------------------------------------------------------------------

    @property
    def tenant(self) -> str:
        return self._work.tenant

    @property
    def lane(self) -> Lane:
        return self._work.request.lane

    @property
    def priority(self) -> int:
        return self._work.request.priority

    @property
    def due(self) -> float | None:
        return self._due_at

    @property
    def choices(self) -> int:
        return len(self._choices)

    @property
    def max_answer_tokens(self) -> int:
        return self._work.params.max_tokens

    def start(self, timeout_s: float) -> None:
        """Queue, with a deadline. Raises `Overloaded`."""
        self._queued_at = self._now()
        if self._work.request.deadline_s is not None:
            self._due_at = self._began + self._work.request.deadline_s
        try:
            self._dispatcher.enqueue(self)
        except Overloaded as refusal:
            raise self._explained(refusal) from None
        if self._ended_at is None:
            self._deadline = asyncio.get_running_loop().call_later(timeout_s, self._expire, timeout_s)

    def engine_request(self) -> EngineRequest:
        """The unfinished choices, continued from what they have said."""
        if self._engine_request is None:
            work = self._work
            choices = tuple(
                ChoiceState(choice.index, tuple(choice.emitted)) for choice in self._choices if choice.finish is None
            )
            self._engine_request = EngineRequest(0, work.prompt, work.params, choices, work.salt, work.request.lane)
        return self._engine_request

    def on_dispatched(self, link: ReplicaLink, wire_id: int) -> None:
        self._placed = (link, wire_id)
        self._engine_request = None
        self._queue_s += self._now() - self._queued_at

    def on_displaced(self, refusal: Refusal) -> None:
        self._fail(self._explained(self._dispatcher.overloaded(refusal)))

    def on_expired(self) -> None:
        if self._due_at is not None and self._now() >= self._due_at:
            deadline_s = self._work.request.deadline_s
            self._fail(DeadlineExceeded(f"The deadline of {deadline_s:g} s passed while the request was waiting."))
            return
        waited_s = self._now() - self._queued_at
        self._fail(Overloaded(f"No replica of {self.deployment} had room within {waited_s:.3g} s.", retry_after_s=1.0))

    # --- for the replica --------------------------------------------------------------------------------------------

    def on_started(self, started: Started) -> None:
        self._prefill_s += started.wait_s + started.prefill_s
        self._decoding_since = self._now()
        if self._cached_tokens is None:
            self._cached_tokens = started.cached_tokens

    def on_emission(self, emission: Emission) -> None:
        choice = self._choices[emission.choice]
        if choice.finish is not None:
            return
        now = self._now()
        if self.ttft_s is None:
            self.ttft_s = now - self._began
        if choice.heard_at is not None and now > choice.heard_at:
            self.intervals.add(now - choice.heard_at)
        choice.heard_at = now
        choice.take(emission)
        if not self._patient:
            self._wake_soon(now)

    def on_finish(self, finish: Finish) -> None:
        choice = self._choices[finish.choice]
        self._decode_s = max(self._decode_s, self._decoded_before_s + finish.decode_s)
        if choice.finish is not None or self._ended_at is not None:
            return
        if finish.reason in (FinishReason.ERROR, FinishReason.CANCELLED):
            self._fail(EngineFailed(finish.error or "The engine gave this request up."))
            return
        if self._work.request.options.stop:
            self._collect()  # the last tokens may complete a stop string, which is then the reason
        if choice.finish is None:
            self._close(choice, finish.reason)
        if not self._patient:
            self._wake()

    def on_lost(self, reason: str) -> None:
        """Resume elsewhere from prompt and emitted tokens, where the engine can and it is not this request's fault."""
        link, self._placed = self._placed, None
        self._deaths += link is None or not link[0].draining  # to be drained is no death
        said = any(choice.emitted for choice in self._choices)
        continuable = link is None or link[0].capabilities.continuation is Continuation.CONTINUABLE
        if self._deaths >= _MOST_DEATHS or (said and not continuable):
            self._fail(EngineFailed(f"The replica was lost: {reason}."))
            return
        self._wait_again()
        self._dispatcher.requeue(self)

    def on_preempted(self) -> ReplicaLink:
        assert self._placed is not None
        (link, wire_id), self._placed = self._placed, None
        link.cancel(wire_id)
        self._wait_again()
        return link

    def _wait_again(self) -> None:
        self._queued_at = self._now()
        if self._decoding_since is not None:
            self._decoded_before_s += self._queued_at - self._decoding_since
            self._decode_s, self._decoding_since = self._decoded_before_s, None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _explained(self, refusal: Overloaded) -> Overloaded:
        """The refusal with the deadline that may be why."""
        deadline_s = self._work.request.deadline_s
        if deadline_s is None:
            return refusal
        text = f"{refusal.message} The deadline of this request is {deadline_s:g} s."
        return Overloaded(text, retry_after_s=refusal.retry_after_s)

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
            self._dispatcher.withdraw(self)
        else:
            link, wire_id = self._placed
            link.cancel(wire_id)

    def _leave_alone(self, choice: ChoiceStream) -> None:
        """The engine shall not go on with a choice whose answer is complete, when others are not."""
        self._engine_request = None
        if self._placed is not None and self._ended_at is None:
            link, wire_id = self._placed
            link.cancel_choice(wire_id, choice.index)

    def _fail(self, error: PileusError) -> None:
        if self._ended_at is None:
            error.settled = True
            self._error = error
            self._leave()
            self._end(error.code)

    def _end(self, outcome: str) -> None:
        self._ended_at = self._now()
        if self._deadline is not None:
            self._deadline.cancel()
        self._on_end(self, outcome)
        self._wake()

    def _wake_soon(self, now: float) -> None:
        """Wake the reader: at the next beat where it has just been, for nobody reads faster and each time costs a write
        to a socket. Only engines whose steps are shorter notice; the first token and the end never wait."""
        if self._will_wake:
            return
        if self._read_at is None or now - self._read_at >= LEAST_INTERVAL_S:
            self._wake()
        else:
            self._will_wake = True
            self._dispatcher.pulse.at_next_beat(self._on_beat)

    def _on_beat(self) -> None:
        self._will_wake = False
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
