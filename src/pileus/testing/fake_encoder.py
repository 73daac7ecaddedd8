"""The fake encoder: the encoder port without a model. Its vectors follow from the ids alone, so that texts that are
alike have like vectors, and whoever asks twice gets the same.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pileus.core.ports import EngineDriver, EngineSpec
from pileus.core.records import (
    Capabilities,
    Continuation,
    Credit,
    Encoded,
    EncodeOutput,
    EncodeRequest,
    EngineStats,
    Finish,
    FinishReason,
    Lane,
    Pooling,
    Started,
    StepOutput,
)
from pileus.testing.text_encoder import FAKE_ENCODING


class FakeEncoderOptions(BaseModel):
    """Sizes and speeds of an encoder that computes next to nothing; for tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_s: NonNegativeFloat = Field(default=0.0, description="Per step, which takes one text of each request.")
    slots: PositiveInt = Field(default=64, description="Requests at the same time.")
    queue_blocks: PositiveInt = Field(default=4096, description="Blocks of 32 tokens that it takes on.")
    refuse_token: NonNegativeInt | None = Field(
        default=None, description="A request whose texts contain this token ends with an error."
    )
    die_after_texts: NonNegativeInt | None = Field(
        default=None, description="The process is gone, as by SIGKILL, once it has encoded so many texts."
    )


class _Job:
    def __init__(self, request: EncodeRequest) -> None:
        self.request = request
        self.next = 0  # place
        self.arrived_s = time.monotonic()

    @property
    def blocks(self) -> int:
        left = self.request.texts[self.next :]
        return -(-sum(map(len, left)) // 128)


class FakeEncoder:
    """Meets `core.ports.Encoder`."""

    def __init__(self, options: FakeEncoderOptions | None = None, model: str = "fake-encoder") -> None:
        self._options = options or FakeEncoderOptions()
        self._model = model
        self._wake = threading.Condition()
        self._inbox: list[EncodeRequest | int] = []
        self._closed = False
        self._jobs: dict[int, _Job] = {}
        self._finishes: list[Finish] = []
        self._seen = self._texts = self._steps = self._tokens = 0
        self._step_s = 0.0

    def capabilities(self) -> Capabilities:
        return Capabilities(
            model=self._model,
            max_context=FAKE_ENCODING.max_length,
            slots=self._options.slots,
            kv_blocks=self._options.queue_blocks,
            block_size=32,
            continuation=Continuation.CONTINUABLE,
            vocab_size=FAKE_ENCODING.vocab_size,
            deterministic=True,
            encoder=True,
        )

    def submit(self, request: EncodeRequest) -> None:
        self._put(request)

    def cancel(self, request_id: int, choice: int | None = None) -> None:
        self._put(request_id)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._jobs),
            slots=self._options.slots,
            kv_blocks=self._options.queue_blocks,
            steps=self._steps,
            step_tokens=self._tokens,
            prompt_tokens=self._tokens,
            step_s=self._step_s,
            infer_s=self._step_s,
        )

    def events(self) -> Iterator[StepOutput]:
        while self._receive():
            began_s = time.monotonic()
            if self._jobs and self._options.step_s:
                time.sleep(self._options.step_s)
            started = tuple(
                Started(number, 0, began_s - job.arrived_s, 0.0) for number, job in self._jobs.items() if not job.next
            )
            encoded = tuple(self._encode(number, job) for number, job in self._jobs.items())
            for number in [number for number, job in self._jobs.items() if job.next == len(job.request.texts)]:
                del self._jobs[number]
                self._finishes.append(Finish(number, 0, FinishReason.STOP, time.monotonic() - began_s))
            finishes, self._finishes = tuple(self._finishes), []
            self._steps += 1
            self._step_s += time.monotonic() - began_s
            yield StepOutput(started, (), finishes, self._credit(), encoded)
            if self._options.die_after_texts is not None and self._texts >= self._options.die_after_texts:
                os.kill(os.getpid(), signal.SIGKILL)

    def _put(self, item: EncodeRequest | int) -> None:
        with self._wake:
            self._inbox.append(item)
            self._wake.notify()

    def _receive(self) -> bool:
        """Take what has come, and wait for it while there is nothing to do. False once it is closed."""
        with self._wake:
            while not (self._inbox or self._jobs or self._closed):
                self._wake.wait()
            received, self._inbox = self._inbox, []
        for item in received:
            if isinstance(item, EncodeRequest):
                self._take(item)
            elif self._jobs.pop(item, None):
                self._finishes.append(Finish(item, 0, FinishReason.CANCELLED))
        return not self._closed

    def _take(self, request: EncodeRequest) -> None:
        self._seen += 1
        if error := self._objection(request):
            self._finishes.append(Finish(request.id, 0, FinishReason.ERROR, error=error))
        else:
            self._jobs[request.id] = _Job(request)

    def _objection(self, request: EncodeRequest) -> str:
        if not request.texts or not all(request.texts):
            return "it has no texts"
        for text in request.texts:
            ids = np.frombuffer(text, "<u4")
            if len(ids) > FAKE_ENCODING.max_length or ids.max() >= FAKE_ENCODING.vocab_size:
                return "a text is too long, or has a token outside the vocabulary"
            if self._options.refuse_token in ids:
                return f"token {self._options.refuse_token} is refused"
        return ""

    def _encode(self, number: int, job: _Job) -> Encoded:
        place = job.next
        job.next += 1
        self._texts += 1
        ids = np.frombuffer(job.request.texts[place], "<u4")
        self._tokens += len(ids)
        return Encoded(number, (place,), (fake_vector(ids, job.request.output).tobytes(),))

    def _credit(self) -> Credit:
        batch = [job for job in self._jobs.values() if job.request.lane is Lane.BATCH]
        return Credit(
            slots=self._options.slots - len(self._jobs),
            kv_blocks=self._options.queue_blocks - sum(job.blocks for job in self._jobs.values()),
            seen=self._seen,
            batch_slots=len(batch),
            batch_kv_blocks=sum(job.blocks for job in batch),
        )


def fake_vector(ids: NDArray[np.uint32], output: EncodeOutput) -> NDArray[np.float32]:
    """What the fake encoder says of a text: how often each token is in it, folded to the hidden size."""
    if output.scores:
        counts = np.bincount(ids % len(FAKE_ENCODING.labels), minlength=len(FAKE_ENCODING.labels))
        shares: NDArray[np.float32] = (counts / counts.sum()).astype(np.float32)
        return shares
    size = FAKE_ENCODING.hidden_size
    tokens = np.eye(size, dtype=np.float32)[ids % size] + output.layer % 3
    found = tokens if output.pooling is Pooling.TOKENS else tokens.mean(axis=0)
    found = found[..., : output.dimensions or size]
    if output.normalise:
        found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
    return np.ascontiguousarray(found, np.float32)


def open_fake_encoder(spec: EngineSpec) -> FakeEncoder:
    return FakeEncoder(spec.options, spec.model)


DRIVER = EngineDriver(name="fake_encoder", options=FakeEncoderOptions, open=open_fake_encoder, needs_model=False)
