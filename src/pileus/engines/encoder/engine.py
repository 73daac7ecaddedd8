"""The encoder's loop: receive, choose texts, have them run, report. One thread owns everything but the inbox.

Several steps run side by side, each on threads of its own: no thread waits for the slowest of all, and while one step's
answers are packed up, the others compute.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.core.ports import EngineSpec
from pileus.core.records import (
    Capabilities,
    Continuation,
    Credit,
    Encoded,
    EncodeRequest,
    EngineStats,
    Finish,
    FinishReason,
    Lane,
    Pooling,
    Started,
    StepOutput,
)
from pileus.engines.encoder.graph import Graph
from pileus.engines.encoder.heads import scores, vector
from pileus.engines.encoder.job import BLOCK_SIZE, Job, Plan, unservable
from pileus.engines.encoder.options import EncoderOptions
from pileus.scheduling.texts import plan_texts

_ANSWER_BYTES = 4 << 20  # of one step; half of what a frame may have
_LEAST_TOKENS = 64  # of a step, before texts are left to another: a pass by itself costs about as much

_Ran = tuple[NDArray[np.float32], float]  # what the model gave, and the seconds that it took


class _Flight(Struct):
    """A step that is under way."""

    plan: Plan
    tokens: int
    began: float
    ran: "Future[_Ran]"


class EncoderEngine:
    """Meets `core.ports.Encoder`: dynamic batches of texts of about one length."""

    def __init__(self, spec: EngineSpec) -> None:
        if spec.model_path is None:
            raise ModelRefused(f"{spec.model} has no files here: the encoder engine needs a model that was pulled")
        options: EncoderOptions = spec.options
        self._options = options
        self._graph = Graph(spec.model_path, options)
        self._encoding = encoding = self._graph.encoding
        self._capabilities = Capabilities(
            model=spec.model,
            max_context=encoding.max_length,
            slots=options.max_requests,
            kv_blocks=options.queue_tokens // BLOCK_SIZE,
            block_size=BLOCK_SIZE,
            continuation=Continuation.CONTINUABLE,
            vocab_size=encoding.vocab_size,
            encoder=True,
            scores=bool(encoding.labels),
        )
        self._inbox: deque[EncodeRequest | int] = deque()  # submits and cancels
        self._wake = threading.Event()
        self._closed = False
        self._seen = 0
        self._jobs: dict[int, Job] = {}
        self._started: list[Started] = []
        self._finishes: list[Finish] = []
        self._runners = ThreadPoolExecutor(self._graph.streams, thread_name_prefix="encoder")
        self._free = list(range(self._graph.streams))
        self._flights: dict[int, _Flight] = {}  # by their streams
        self._landed: deque[int] = deque()  # streams whose step is over
        self._stats = EngineStats(slots=options.max_requests, kv_blocks=self._capabilities.kv_blocks)

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def submit(self, request: EncodeRequest) -> None:
        self._inbox.append(request)
        self._wake.set()

    def cancel(self, request_id: int, choice: int | None = None) -> None:
        self._inbox.append(request_id)
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def stats(self) -> EngineStats:
        return self._stats

    def events(self) -> Iterator[StepOutput]:
        while not self._closed:
            self._receive()
            self._launch()
            if self._landed or self._finishes:
                yield self.step()
            else:
                self._wake.wait()
                self._wake.clear()

    def step(self) -> StepOutput:
        """What a step gave that is over, if one is, and what else there is to tell."""
        encoded = self._land(self._landed.popleft()) if self._landed else ()
        self._finish()
        self._tell()
        started, self._started = tuple(self._started), []
        finishes, self._finishes = tuple(self._finishes), []
        return StepOutput(started, (), finishes, self._credit(), encoded)

    # --- receive ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, EncodeRequest):
                self._enqueue(item)
            elif self._jobs.pop(item, None):
                self._finishes.append(Finish(item, 0, FinishReason.CANCELLED))

    def _enqueue(self, request: EncodeRequest) -> None:
        self._seen += 1
        if problem := unservable(request, self._encoding):
            self._finishes.append(Finish(request.id, 0, FinishReason.ERROR, error=problem))
            return
        served = min((job.queue.served for job in self._jobs.values()), default=0)
        self._jobs[request.id] = Job(request, served)

    # --- schedule ---------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Begin a step on each stream that is free, as far as there are texts."""
        while self._free and (plan := self._plan()):
            stream = self._free.pop()
            began = perf_counter()
            self._start(plan, began)
            tokens = sum(len(job.texts[place]) for job, place in plan)
            ran = self._runners.submit(self._run, stream, plan)
            self._flights[stream] = _Flight(plan, tokens, began, ran)
            self._tell()
            ran.add_done_callback(lambda _, stream=stream: self._on_landed(stream))  # type: ignore[misc]

    def _plan(self) -> Plan:
        """Texts for a step: of those requests that need the same output as the one whose turn it is."""
        waiting = [job for job in self._jobs.values() if job.queue]
        if not waiting:
            return []
        first = min(waiting, key=lambda job: (job.request.lane is Lane.BATCH, job.queue.served))
        alike = [job for job in waiting if job.layer == first.layer]
        owners = {id(job.queue): job for job in alike}
        plan = plan_texts([job.queue for job in alike], self._step_tokens(alike))
        return [(owners[id(queue)], place) for queue, place in plan]

    def _step_tokens(self, jobs: Sequence[Job]) -> int:
        """Fewer where those that wait suffice for no more on each free stream, or where each token's vector is wanted:
        a step's answer has its bounds."""
        most = self._options.step_tokens
        if any(job.request.output.pooling is Pooling.TOKENS for job in jobs):
            most = min(most, _ANSWER_BYTES // (4 * self._encoding.hidden_size))
        share = -(-sum(job.queue.tokens for job in jobs) // len(self._free))
        return min(most, max(share, _LEAST_TOKENS))

    def _start(self, plan: Plan, began: float) -> None:
        """Requests whose first texts are in this step are told of with the next report."""
        for job, place in plan:
            job.flying += len(job.texts[place])
            if job.started_at is None:
                job.started_at = began
                self._started.append(Started(job.request.id, 0, began - job.arrived_at, 0.0))

    # --- run --------------------------------------------------------------------------------------------------------

    def _run(self, stream: int, plan: Plan) -> _Ran:
        """In one of the runners' threads."""
        began = perf_counter()
        texts, seconds = [job.texts[place] for job, place in plan], [job.second(place) for job, place in plan]
        found = self._graph.run(stream, texts, seconds, plan[0][0].layer)
        return found, perf_counter() - began

    def _on_landed(self, stream: int) -> None:
        self._landed.append(stream)
        self._wake.set()

    def _land(self, stream: int) -> tuple[Encoded, ...]:
        """The answers of a step that is over; those to requests that were cancelled meanwhile are dropped."""
        flight = self._flights.pop(stream)
        found, infer_s = flight.ran.result()
        answers: dict[int, list[tuple[int, bytes]]] = {}
        for (job, place), values in zip(flight.plan, found, strict=True):
            job.flying -= len(job.texts[place])
            if self._jobs.get(job.request.id) is job:
                answer = self._answer(job, len(job.texts[place]), values)
                answers.setdefault(job.request.id, []).append((place, answer))
        self._free.append(stream)
        self._launch()
        step_s = perf_counter() - flight.began
        self._count(steps=1, step_tokens=flight.tokens, prompt_tokens=flight.tokens, step_s=step_s, infer_s=infer_s)
        return tuple(
            Encoded(number, tuple(place for place, _ in found), tuple(value for _, value in found))
            for number, found in answers.items()
            if self._are_sound(number, found)
        )

    def _answer(self, job: Job, length: int, values: NDArray[np.float32]) -> bytes:
        output = job.request.output
        found = scores(values, self._encoding.activation) if output.scores else vector(values, length, output)
        return found.tobytes() if np.isfinite(found).all() else b""

    def _are_sound(self, number: int, found: list[tuple[int, bytes]]) -> bool:
        """A model that gives no numbers fails the request."""
        if all(value for _, value in found):
            return True
        self._jobs.pop(number)
        error = "the model's output is not finite"
        self._finishes.append(Finish(number, 0, FinishReason.ERROR, error=error))
        return False

    # --- report -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        now = perf_counter()
        for number in [number for number, job in self._jobs.items() if not (job.queue or job.flying)]:
            job = self._jobs.pop(number)
            assert job.started_at is not None
            self._finishes.append(Finish(number, 0, FinishReason.STOP, now - job.started_at))

    def _credit(self) -> Credit:
        jobs = self._jobs.values()
        batch = [job for job in jobs if job.request.lane is Lane.BATCH]
        return Credit(
            slots=self._capabilities.slots - len(jobs),
            kv_blocks=self._capabilities.kv_blocks - sum(job.blocks for job in jobs),
            seen=self._seen,
            batch_slots=len(batch),
            batch_kv_blocks=sum(job.blocks for job in batch),
        )

    def _count(self, **amounts: float) -> None:
        """Steps side by side count with all their seconds, each."""
        stats = self._stats
        self._stats = replace(stats, **{name: getattr(stats, name) + amount for name, amount in amounts.items()})

    def _tell(self) -> None:
        used = sum(job.blocks for job in self._jobs.values())
        self._stats = replace(
            self._stats,
            running=len(self._jobs),
            kv_blocks_used=min(used, self._capabilities.kv_blocks),
            planned_tokens=sum(flight.tokens for flight in self._flights.values()),
        )
