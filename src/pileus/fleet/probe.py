"""Health is an answered request: a process that listens may still be unable to generate."""

import asyncio
from typing import Any

from pileus.core.errors import Unavailable
from pileus.core.records import (
    Emission,
    Encoded,
    EncodeOutput,
    EncodeRequest,
    EngineRequest,
    Finish,
    FinishReason,
    SamplingParams,
    Started,
)
from pileus.engines.replica.client import ReplicaLink

_PROBE = EngineRequest(0, (1,), SamplingParams(max_tokens=1, seed=0), salt=b"probe")
_TEXT = (1).to_bytes(4, "little")


class _ProbeSink:
    """Meets `ReplicaSink` and `EncodeSink`."""

    def __init__(self, link: ReplicaLink) -> None:
        self._link = link
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.figures: asyncio.Future[None] | None = None  # after the answer: done when they are told

    def on_started(self, started: Started) -> None: ...

    def on_emission(self, emission: Emission) -> None: ...

    def on_encoded(self, encoded: Encoded) -> None: ...

    def on_finish(self, finish: Finish) -> None:
        if finish.reason is FinishReason.ERROR:
            self.on_lost(f"it cannot answer: {finish.error}")
        elif not self.answered.done():
            self.figures = self._link.figures()
            self.answered.set_result(None)

    def on_lost(self, reason: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(Unavailable(f"replica {self._link.replica}: {reason}", retry_after_s=1.0))


async def prove(link: ReplicaLink) -> None:
    """Return once the replica has generated one token, or encoded one, and has told figures that count it: so those of
    a replica that is ready are its own, and what they grow by is what it was asked. Raises `Unavailable` when it could
    not."""
    sink = _ProbeSink(link)
    request_id = _ask(link, sink)
    try:
        await sink.answered
        assert sink.figures is not None
        news: list[asyncio.Future[Any]] = [sink.figures, link.lost]
        await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
    finally:
        link.cancel(request_id)


def _ask(link: ReplicaLink, sink: _ProbeSink) -> int:
    if not link.capabilities.encoder:
        return link.submit(_PROBE, sink)
    output = EncodeOutput(scores=link.capabilities.scores)
    return link.encode(EncodeRequest(0, (_TEXT,), output), sink)
