"""Requests on the encoder engine: which can be run, and what is left of one that has not ended."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from pileus.core.records import EncodeRequest, Encoding
from pileus.engines.encoder.graph import SCORES
from pileus.scheduling.texts import TextQueue

BLOCK_SIZE = 32  # tokens of a unit of credit, as of others' KV blocks


class Job:
    """A request that has not ended."""

    def __init__(self, request: EncodeRequest, served: int) -> None:
        self.request = request
        self.texts = [np.frombuffer(text, "<u4") for text in request.texts]
        self.queue = TextQueue([len(text) for text in self.texts], request.lane, served)
        self.flying = 0  # tokens of its texts that are in steps
        self.arrived_at = perf_counter()
        self.started_at: float | None = None

    @property
    def layer(self) -> int:
        """What of the model must be run for it."""
        return SCORES if self.request.output.scores else self.request.output.layer

    @property
    def blocks(self) -> int:
        return -(-(self.queue.tokens + self.flying) // BLOCK_SIZE)

    def second(self, place: int) -> int:
        return self.request.seconds[place] if self.request.seconds else 0


Plan = Sequence[tuple[Job, int]]  # and the place of one of its texts


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
