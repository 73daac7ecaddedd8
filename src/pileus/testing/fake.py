"""The fake engine: the engine port without a model, for tests and for calibrated load.

It keeps a real engine's books: slots, KV blocks (reserved for the worst case when a request gets its slots), a prefix
cache (a set of hashes), credit, counters. What it says is decided in `answers`, how it fails in `options`.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pileus.core.errors import ModelRefused
from pileus.core.ports import AdapterSource, EngineDriver, EngineSpec
from pileus.core.records import (
    Capabilities,
    Continuation,
    Credit,
    Emission,
    EngineRequest,
    EngineStats,
    Finish,
    FinishReason,
    Lane,
    Started,
    StepOutput,
)
from pileus.scheduling.step import choose_victim, urgency
from pileus.testing.answers import Answers
from pileus.testing.held import FakeChoice, FakePrefixCache, FakeRequest, objection
from pileus.testing.options import Break, Die, FakeOptions, Hang, Refuse


class EngineBroken(Exception):
    """The scripted fault `break`."""


class FakeEngine:
    """Meets `core.ports.Engine`."""

    def __init__(self, options: FakeOptions | None = None, model: str = "fake") -> None:
        self._options = options = options or FakeOptions()
        self._model = model
        self._answers = Answers(options)
        self._scripted = [fault for fault in options.faults if not isinstance(fault, Refuse)]
        self._slowness = 1.0
        self._wake = threading.Condition()
        self._inbox: list[tuple[float, EngineRequest] | tuple[int, int | None]] = []  # submits and cancels, in order
        self._closed = False
        self._adapters: dict[str, str] = {}
        self._requests: dict[int, FakeRequest] = {}
        self._waiting: list[FakeRequest] = []
        self._running: list[FakeChoice] = []
        self._finishes: list[Finish] = []  # for the next output
        self._prefixes = FakePrefixCache(options.kv_blocks, options.block_size)
        self._seen = 0
        self._blocks_used = 0
        self._steps = self._prompt_tokens = self._hit_tokens = self._generated = self._preemptions = 0
        self._step_s = 0.0
        self._step_tokens = self._planned_tokens = 0

    # --- from any thread ------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        options = self._options
        return Capabilities(
            model=self._model,
            max_context=options.max_context,
            slots=options.slots,
            kv_blocks=options.kv_blocks,
            block_size=options.block_size,
            continuation=Continuation.CONTINUABLE,
            vocab_size=options.vocab_size,
            deterministic=True,
            adapters=options.adapters,
        )

    def submit(self, request: EngineRequest) -> None:
        self._put((time.monotonic(), request))

    def cancel(self, request_id: int, choice: int | None = None) -> None:
        self._put((request_id, choice))

    def load_adapter(self, source: AdapterSource) -> None:
        if not self._options.adapters:
            raise ModelRefused("this engine was told to take no adapters")
        if not Path(source.path).is_dir():
            raise ModelRefused(f"{source.path} is not there")
        self._adapters[source.id] = source.path

    def unload_adapter(self, adapter: str) -> None:
        self._adapters.pop(adapter, None)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def stats(self) -> EngineStats:
        options = self._options
        return EngineStats(
            running=len(self._running),
            waiting=sum(len(waiting.choices) for waiting in tuple(self._waiting)),
            slots=options.slots,
            kv_blocks=options.kv_blocks,
            kv_blocks_used=self._blocks_used,
            kv_blocks_cached=min(len(self._prefixes), options.kv_blocks - self._blocks_used),
            steps=self._steps,
            step_tokens=self._step_tokens,
            planned_tokens=self._planned_tokens,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated,
            prefix_query_tokens=self._prompt_tokens,
            prefix_hit_tokens=self._hit_tokens,
            preemptions=self._preemptions,
            step_s=self._step_s,
            infer_s=self._step_s,
        )

    def _put(self, item: tuple[float, EngineRequest] | tuple[int, int | None]) -> None:
        with self._wake:
            self._inbox.append(item)
            self._wake.notify()

    # --- the engine's thread --------------------------------------------------------------------------------------

    def events(self) -> Iterator[StepOutput]:
        while self._receive():
            begun_s = time.monotonic()
            started = self._prefill(self._admit(), begun_s)
            emissions = self._decode()
            finishes, self._finishes = tuple(self._finishes), []
            self._steps += 1
            self._step_tokens += self._planned_tokens
            self._planned_tokens = 0
            self._step_s += time.monotonic() - begun_s
            yield StepOutput(started, emissions, finishes, self._credit())
            self._fail_as_scripted()

    def _receive(self) -> bool:
        """Take what has come, and wait for it while there is nothing to do. False once the engine is closed."""
        with self._wake:
            while not (self._inbox or self._running or self._waiting or self._closed):
                self._wake.wait()
            received, self._inbox = self._inbox, []
        for item in received:
            match item:
                case (float() as received_s, EngineRequest() as request):
                    self._take(received_s, request)
                case (int() as request_id, choice):
                    self._cancel(request_id, choice)
        return not self._closed

    def _take(self, received_s: float, request: EngineRequest) -> None:
        self._seen += 1
        if error := objection(request, self._options, self._adapters):
            self._finishes += [
                Finish(request.id, choice.index, FinishReason.ERROR, error=error) for choice in request.choices
            ]
            return
        choices = [self._choice(request, choice.index, len(choice.emitted)) for choice in request.choices]
        taken = FakeRequest(request, choices, self._blocks(len(request.prompt)), received_s, self._seen)
        if taken.blocks > self._options.kv_blocks:
            error = f"it needs {taken.blocks} KV blocks of {self._options.kv_blocks}"
            self._finishes += [Finish(request.id, index, FinishReason.ERROR, error=error) for index in taken.choices]
            return
        self._requests[request.id] = taken
        self._waiting.append(taken)

    def _choice(self, request: EngineRequest, index: int, emitted: int) -> FakeChoice:
        params, answers = request.params, self._answers
        longest = min(params.max_tokens, self._options.max_context - len(request.prompt))
        length, ending = longest, FinishReason.LENGTH
        if answers.length is not None and answers.length <= longest:
            length, ending = answers.length, FinishReason.STOP
        begin = answers.beginning(request, index)
        choice = FakeChoice(request.id, index, begin + emitted, begin + length, ending, self._blocks(longest))
        choice.stop_ids = answers.tokens.intersection(params.stop_ids)
        choice.logprobs = params.logprobs
        return choice

    def _admit(self) -> list[FakeRequest]:
        """Give slots and blocks to those that wait: the most urgent first, at the cost of batch work if need be."""
        admitted = []
        self._waiting.sort(key=urgency)
        while self._waiting:
            first = self._waiting[0]
            free_slots = self._options.slots - len(self._running)
            if len(first.choices) > free_slots or first.blocks > self._options.kv_blocks - self._blocks_used:
                running = {choice.request_id for choice in self._running}
                batch = [self._requests[id_] for id_ in running if self._requests[id_].lane is Lane.BATCH]
                if first.lane is Lane.BATCH or not batch:
                    break
                self._preempt(choose_victim(batch))
                continue
            self._waiting.pop(0)
            self._blocks_used += first.blocks
            self._running += first.choices.values()
            if not first.started:
                first.started = True
                admitted.append(first)
        return admitted

    def _preempt(self, victim: FakeRequest) -> None:
        """Back to the queue: it goes on later from where it is."""
        self._blocks_used -= victim.blocks
        for choice in victim.choices.values():
            self._running.remove(choice)
        self._waiting.append(victim)
        self._waiting.sort(key=urgency)
        self._preemptions += 1

    def _prefill(self, admitted: list[FakeRequest], begun_s: float) -> tuple[Started, ...]:
        """Let the time of a step pass, with the prompts of those just admitted in it."""
        cached = [self._prefixes.take(request.request) for request in admitted]
        prompts = sum(len(request.request.prompt) for request in admitted)
        self._prompt_tokens += prompts
        self._hit_tokens += sum(cached)
        self._planned_tokens = prompts - sum(cached) + len(self._running)
        if self._running:
            step_s = self._options.step_s + self._options.prefill_s_per_token * (prompts - sum(cached))
            if step_s:
                time.sleep(step_s * self._slowness)
        if not admitted:
            return ()
        now_s = time.monotonic()
        for request in admitted:
            for choice in request.choices.values():
                choice.first_s = now_s
        return tuple(
            Started(request.request.id, tokens, begun_s - request.received_s, now_s - begun_s)
            for request, tokens in zip(admitted, cached, strict=True)
        )

    def _decode(self) -> tuple[Emission, ...]:
        """One token for each running choice."""
        answers = self._answers
        single, size = answers.single, answers.size
        emissions = []
        ended: list[tuple[FakeChoice, FinishReason]] = []
        for choice in self._running:
            place = choice.place
            if place >= choice.end:  # resumed when it had nothing left to say
                ended.append((choice, choice.ending))
                continue
            tokens = single[place % size]
            if choice.stop_ids and tokens[0] in choice.stop_ids:
                ended.append((choice, FinishReason.STOP))
                continue
            logprobs = None if choice.logprobs is None else (answers.logprobs(place, choice.logprobs),)
            emissions.append(Emission(choice.request_id, choice.index, tokens, logprobs))
            choice.place = place + 1
            if choice.place >= choice.end:
                ended.append((choice, choice.ending))
        self._generated += len(emissions)
        for choice, reason in ended:
            self._finish(self._requests[choice.request_id], choice, reason)
        return tuple(emissions)

    def _cancel(self, request_id: int, index: int | None) -> None:
        """End the choices of a request that have not ended, or that one."""
        request = self._requests.get(request_id)
        if request is None:
            return
        waits = request in self._waiting
        for choice in [choice for choice in request.choices.values() if index in (None, choice.index)]:
            if waits:
                del request.choices[choice.index]
                self._finishes.append(Finish(request_id, choice.index, FinishReason.CANCELLED))
            else:
                self._finish(request, choice, FinishReason.CANCELLED)
        if waits and not request.choices:
            self._waiting.remove(request)
            del self._requests[request_id]

    def _finish(self, request: FakeRequest, choice: FakeChoice, reason: FinishReason) -> None:
        """End a running choice, and free what it held."""
        self._running.remove(choice)
        del request.choices[choice.index]
        self._blocks_used -= choice.blocks
        if not request.choices:
            self._blocks_used -= request.prompt_blocks
            del self._requests[choice.request_id]
        decode_s = time.monotonic() - choice.first_s
        self._finishes.append(Finish(choice.request_id, choice.index, reason, decode_s))

    def _credit(self) -> Credit:
        requests = self._requests.values()
        batch = [request for request in requests if request.lane is Lane.BATCH]
        return Credit(
            slots=self._options.slots - len(self._running) - sum(len(waiting.choices) for waiting in self._waiting),
            kv_blocks=self._options.kv_blocks - self._blocks_used - sum(waiting.blocks for waiting in self._waiting),
            seen=self._seen,
            batch_slots=sum(len(request.choices) for request in batch),
            batch_kv_blocks=sum(request.blocks for request in batch),
        )

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._options.block_size)

    def _fail_as_scripted(self) -> None:
        for fault in self._scripted:
            if self._generated < fault.after_tokens:
                continue
            if isinstance(fault, Die):
                os.kill(os.getpid(), signal.SIGKILL)
            elif isinstance(fault, Break):
                raise EngineBroken
            elif isinstance(fault, Hang):
                threading.Event().wait()
            else:
                self._slowness = fault.factor


def open_fake(spec: EngineSpec) -> FakeEngine:
    return FakeEngine(spec.options, spec.model)


DRIVER = EngineDriver(name="fake", options=FakeOptions, open=open_fake, needs_model=False)
