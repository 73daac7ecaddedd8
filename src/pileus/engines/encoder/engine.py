"""The encoder's loop: receive, choose texts, run, report. One thread owns everything but the inbox."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np
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
    Encoding,
    EngineStats,
    Finish,
    FinishReason,
    Lane,
    Pooling,
    Started,
    StepOutput,
)
from pileus.engines.encoder.graph import SCORES, Graph
from pileus.engines.encoder.heads import scores, vector
from pileus.engines.encoder.options import EncoderOptions
from pileus.scheduling.texts import TextQueue, plan_texts

BLOCK_SIZE = 32  # tokens of a unit of credit, as of others' KV blocks
_ANSWER_BYTES = 4 << 20  # of one step; half of what a frame may have


class _Job:
    """A request that has not ended."""

    def __init__(self, request: EncodeRequest, served: int) -> None:
        self.request = request
        self.texts = [np.frombuffer(text, "<u4") for text in request.texts]
        self.queue = TextQueue([len(text) for text in self.texts], request.lane, served)
        self.arrived_at = perf_counter()
        self.started_at: float | None = None

    @property
    def layer(self) -> int:
        """What of the model must be run for it."""
        return SCORES if self.request.output.scores else self.request.output.layer

    @property
    def blocks(self) -> int:
        return -(-self.queue.tokens // BLOCK_SIZE)

    def second(self, place: int) -> int:
        return self.request.seconds[place] if self.request.seconds else 0


Plan = list[tuple[_Job, int]]  # and the place of one of its texts


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
        self._jobs: dict[int, _Job] = {}
        self._finishes: list[Finish] = []
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
            if self._jobs or self._finishes:
                yield self.step()
            else:
                self._wake.wait()
                self._wake.clear()

    def step(self) -> StepOutput:
        """One pass of the loop: what was received becomes a batch, the batch becomes vectors or scores."""
        began = perf_counter()
        plan = self._plan()
        started = self._start(plan, began)
        encoded = self._run(plan) if plan else ()
        self._finish()
        finishes, self._finishes = tuple(self._finishes), []
        self._tell(step_s=perf_counter() - began if plan else 0.0)
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
        self._jobs[request.id] = _Job(request, served)

    # --- schedule ---------------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        """Texts for this step: of those requests that need the same output as the one whose turn it is."""
        if not self._jobs:
            return []
        first = min(self._jobs.values(), key=lambda job: (job.request.lane is Lane.BATCH, job.queue.served))
        alike = [job for job in self._jobs.values() if job.layer == first.layer]
        owners = {id(job.queue): job for job in alike}
        plan = plan_texts([job.queue for job in alike], self._step_tokens(alike))
        return [(owners[id(queue)], place) for queue, place in plan]

    def _step_tokens(self, jobs: Sequence[_Job]) -> int:
        """Fewer where each token's vector is wanted: a step's answer has its bounds."""
        if any(job.request.output.pooling is Pooling.TOKENS for job in jobs):
            return min(self._options.step_tokens, _ANSWER_BYTES // (4 * self._encoding.hidden_size))
        return self._options.step_tokens

    def _start(self, plan: Plan, began: float) -> tuple[Started, ...]:
        """Requests whose first texts are in this step."""
        new = {job.request.id: job for job, _ in plan if job.started_at is None}
        for job in new.values():
            job.started_at = began
        return tuple(Started(number, 0, began - job.arrived_at, 0.0) for number, job in new.items())

    # --- run --------------------------------------------------------------------------------------------------------

    def _run(self, plan: Plan) -> tuple[Encoded, ...]:
        texts = [job.texts[place] for job, place in plan]
        tokens = sum(map(len, texts))
        self._tell(planned_tokens=tokens)
        began = perf_counter()
        found = self._graph.run(texts, [job.second(place) for job, place in plan], plan[0][0].layer)
        infer_s = perf_counter() - began
        answers: dict[int, list[tuple[int, bytes]]] = {}
        for (job, place), text, values in zip(plan, texts, found, strict=True):
            answers.setdefault(job.request.id, []).append((place, self._answer(job, len(text), values)))
        self._count(steps=1, step_tokens=tokens, prompt_tokens=tokens, infer_s=infer_s)
        return tuple(
            Encoded(number, tuple(place for place, _ in found), tuple(value for _, value in found))
            for number, found in answers.items()
            if self._are_sound(number, found)
        )

    def _answer(self, job: _Job, length: int, values: NDArray[np.float32]) -> bytes:
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
        for number in [number for number, job in self._jobs.items() if not job.queue]:
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
        stats = self._stats
        self._stats = replace(stats, **{name: getattr(stats, name) + amount for name, amount in amounts.items()})

    def _tell(self, planned_tokens: int = 0, step_s: float = 0.0) -> None:
        used = sum(job.blocks for job in self._jobs.values())
        self._stats = replace(
            self._stats,
            running=len(self._jobs),
            kv_blocks_used=min(used, self._capabilities.kv_blocks),
            planned_tokens=planned_tokens,
            step_s=self._stats.step_s + step_s,
        )


def unservable(request: EncodeRequest, encoding: Encoding) -> str:
    """Why a request cannot be run; empty where it can."""
    output = request.output
    if not request.texts:
        return "it has no texts"
    if request.seconds and len(request.seconds) != len(request.texts):
        return "not every text says where its second part begins"
    if output.scores and not encoding.labels:
        return "the model gives no scores"
    if not output.scores and not encoding.features:
        return "the model gives no vectors"
    if output.layer < -1 or output.layer > (encoding.layers or -1) or output.dimensions > encoding.hidden_size:
        return f"the model has no layer {output.layer} with {output.dimensions} dimensions"
    for text in request.texts:
        if not text or len(text) % 4 or len(text) > 4 * encoding.max_length:
            return f"a text has {len(text) / 4:g} tokens; from 1 to {encoding.max_length} are allowed"
        if int(np.frombuffer(text, "<u4").max()) >= encoding.vocab_size:
            return "a token is outside the vocabulary"
    return ""
