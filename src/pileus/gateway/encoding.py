"""One admitted request to an encoder: it hears what became of each text, and hands it over as a whole.

What has come of its answer stays when its replica is lost, or when it must yield its place: the texts that are left go
elsewhere.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import EngineFailed
from pileus.core.records import (
    Emission,
    Encoded,
    EncodeOutput,
    EncodeRequest,
    Encoding,
    EncodingRequest,
    Finish,
    FinishReason,
    Lane,
    Principal,
)
from pileus.engines.replica.client import ID_BYTES, ReplicaLink
from pileus.gateway.pending import Pending, Scheduler
from pileus.gateway.records import Usage
from pileus.gateway.segments import merged
from pileus.gateway.vectors import FLOAT_BYTES

# Merging this many numbers takes about as long as handing them to a thread and back.
_INLINE_FLOATS = 4_000


class EncodeWork(Struct, frozen=True):
    """What the pipeline worked out before admission. `texts` and `seconds` as in `EncodeRequest`, `weights` as in
    `Packed`."""

    request: EncodingRequest
    principal: Principal
    deployment: str
    texts: tuple[bytes, ...]
    seconds: tuple[int, ...]
    output: EncodeOutput
    weights: tuple[tuple[int, ...], ...] = ()


class Encodings(Struct, frozen=True):
    """The answer: for each text its vector, its tokens' vectors, or its scores, as little-endian 32-bit floats."""

    values: Sequence[bytes]
    width: int  # floats of one vector, or of one text's scores
    labels: tuple[str, ...]  # of a classifier


class TextsEncoding(Pending):
    """An answer in the making. Belongs to the event loop's thread. Meets `core.ports.EncodeSink`."""

    def __init__(self, work: EncodeWork, encoding: Encoding, scheduler: Scheduler, clock: Clock, began: float) -> None:
        super().__init__(work.request, work.principal, work.deployment, scheduler, clock, began)
        self._work = work
        self._encoding = encoding
        self._tokens = sum(map(len, work.texts)) // ID_BYTES
        self._encoded_tokens = 0
        self._values: list[bytes] = [b""] * len(work.texts)
        self._left = list(range(len(work.texts)))  # places of the texts that were sent to the present replica
        self._reader.patient = True

    # --- for the edge -----------------------------------------------------------------------------------------------

    async def whole(self) -> Encodings:
        """The answer, once it is complete. Raises the failure."""
        while not self._ended:
            await self._reader.wait()
        if self._error is not None:
            raise self._error
        labels, output = self._encoding.labels, self._work.output
        width = len(labels) if output.scores else output.dimensions or self._encoding.hidden_size
        return Encodings(await self._texts_values(), width, labels)

    @property
    def usage(self) -> Usage:
        """Of the texts that were encoded; nothing is owed for an answer that failed."""
        return Usage(0 if self._error else self._encoded_tokens, 0, 0)

    # --- for scheduling ---------------------------------------------------------------------------------------------

    @property
    def prompt_tokens(self) -> int:
        return self._tokens

    @property
    def choices(self) -> int:
        return 1

    @property
    def emitted(self) -> tuple[int, ...]:
        return (0,)

    @property
    def max_answer_tokens(self) -> int:
        return 0

    # --- for the replica --------------------------------------------------------------------------------------------

    def on_emission(self, emission: Emission) -> None:
        """An encoder says no tokens."""

    def on_encoded(self, encoded: Encoded) -> None:
        if self._ended:
            return
        self.stopwatch.heard(None)
        for place, values in zip(encoded.places, encoded.values, strict=True):
            text = self._left[place]
            self._values[text] = values
            self._encoded_tokens += len(self._work.texts[text]) // ID_BYTES

    def on_finish(self, finish: Finish) -> None:
        self.stopwatch.finished(finish.decode_s)
        if self._ended:
            return
        if finish.reason is not FinishReason.STOP or not all(self._values):
            self._fail(EngineFailed(finish.error or "The engine gave this request up."))
            return
        self._leave()
        self._end(finish.reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _texts_values(self) -> Sequence[bytes]:
        """One for each text. Many numbers are merged in a thread, so that others' streams go on."""
        work = self._work
        if not work.weights:
            return self._values
        merge = partial(merged, best=work.request.query is not None, normalise=work.output.normalise)
        if sum(map(len, self._values)) <= _INLINE_FLOATS * FLOAT_BYTES:
            return merge(self._values, work.weights)
        return await asyncio.to_thread(merge, self._values, work.weights)

    @property
    def _said(self) -> bool:
        return any(self._values)

    def _send(self, link: ReplicaLink, lane: Lane) -> int:
        """The texts without an answer."""
        work = self._work
        self._left = [place for place, values in enumerate(self._values) if not values]
        texts = tuple(work.texts[place] for place in self._left)
        seconds = tuple(work.seconds[place] for place in self._left) if work.seconds else ()
        return link.encode(EncodeRequest(0, texts, work.output, seconds, lane), self)

    def _collect(self) -> None:
        """It is handed over when it is whole."""
