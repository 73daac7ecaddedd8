"""One admitted request: it hears the replica's tokens and hands their text to whoever asked.

Callbacks from the replica only note what came; text is made when it is asked for, so what arrives while the reader is
busy becomes one delta. Every generation ends exactly once: by its last choice's finish, a failure, its deadline, or
because its caller left.
"""

from pileus.core.clock import Clock
from pileus.core.errors import EngineFailed
from pileus.core.ports import Tokenizer
from pileus.core.records import ChoiceState, Emission, EngineRequest, Finish, FinishReason, Lane, Started
from pileus.engines.replica.client import ReplicaLink
from pileus.gateway.pending import Pending, Scheduler
from pileus.gateway.records import Delta, Usage, Work
from pileus.gateway.stream import ChoiceStream


class Generation(Pending):
    """An answer in the making. Belongs to the event loop's thread."""

    def __init__(self, work: Work, tokenizer: Tokenizer, scheduler: Scheduler, clock: Clock, began: float) -> None:
        super().__init__(work.request, work.principal, work.deployment, scheduler, clock, began)
        options = work.request.options
        self.work = work
        self._choices = [
            ChoiceStream(index, tokenizer, options.stop, logprobs=work.params.logprobs is not None)
            for index in range(options.n)
        ]
        self._unfinished = options.n
        self._cached_tokens: int | None = None
        self._ready: list[Delta] = []

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

    @property
    def usage(self) -> Usage:
        """Exact once the generation has ended."""
        return Usage(self.prompt_tokens, self._cached_tokens or 0, sum(choice.delivered for choice in self._choices))

    # --- for scheduling ---------------------------------------------------------------------------------------------

    @property
    def choices(self) -> int:
        return len(self._choices)

    @property
    def prompt_tokens(self) -> int:
        return len(self.work.prompt)

    @property
    def emitted(self) -> tuple[int, ...]:
        """How many tokens each unfinished choice has said."""
        return tuple(len(choice.emitted) for choice in self._choices if choice.finish is None)

    @property
    def max_answer_tokens(self) -> int:
        return self.work.params.max_tokens

    @property
    def adapter(self) -> str:
        return self.work.adapter.name if self.work.adapter else ""

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.work.prefix

    # --- for the replica --------------------------------------------------------------------------------------------

    def on_started(self, started: Started) -> None:
        super().on_started(started)
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

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _said(self) -> bool:
        return any(choice.emitted for choice in self._choices)

    def _send(self, link: ReplicaLink, lane: Lane) -> int:
        """The unfinished choices, continued from what they have said."""
        work = self.work
        choices = tuple(
            ChoiceState(choice.index, tuple(choice.emitted)) for choice in self._choices if choice.finish is None
        )
        adapter = "" if work.adapter is None else work.adapter.id
        return link.submit(EngineRequest(0, work.prompt, work.params, choices, work.salt, lane, adapter), self)

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

    def _leave_alone(self, choice: ChoiceStream) -> None:
        """The engine shall not go on with a choice whose answer is complete, when others are not."""
        if self._placed is not None and not self._ended:
            link, wire_id = self._placed
            link.cancel_choice(wire_id, choice.index)
