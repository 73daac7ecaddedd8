"""A background request's life in a job worker. There is no half of it: each lease begins from the beginning."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from msgspec import Raw
from msgspec.json import encode

from pileus.background.records import BackgroundSpec, Refusal, decode_spec
from pileus.core.clock import Clock
from pileus.core.errors import DeadlineExceeded, InvalidRequest, Overloaded, PileusError
from pileus.core.records import Principal
from pileus.jobs.handler import MAX_RESULT_BYTES, YIELDED, Context, JobFailed, Yielded
from pileus.store.blobs import Blobs, read_whole
from pileus.store.job_table import Wish

GRACE_S: Final = 10.0  # for an answer that is being made, when its worker has to end
_SHORTEST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0


class Speaker(Protocol):
    """The endpoints, for requests that do not come over HTTP. Wire forms live above."""

    def answer(
        self, spec: BackgroundSpec, body: bytes, principal: Principal, left_s: float
    ) -> Coroutine[Any, Any, bytes]:
        """The JSON object that the endpoint would give. Raises what the pipeline raises."""
        ...

    def refusal(self, error: PileusError) -> bytes:
        """The JSON object that the endpoint would give for an error."""
        ...


class BackgroundHandler:
    """Meets `jobs.handler.Handler`."""

    def __init__(
        self,
        speaker: Speaker,
        blobs: Blobs,
        principal: Callable[[str], Principal],
        clock: Clock,
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self._speaker = speaker
        self._blobs = blobs
        self._principal = principal  # of a key's id; raises where the key is closed
        self._clock = clock
        self._grace_s = grace_s
        self._answering: defaultdict[str, set[asyncio.Task[bytes]]] = defaultdict(set)  # by key id

    def close_key(self, key_id: str) -> None:
        """What is being answered for that key has lost its right."""
        for answering in tuple(self._answering.pop(key_id, ())):
            answering.cancel()

    async def __call__(self, context: Context) -> bytes | Yielded:
        working = asyncio.ensure_future(self._work(context))
        try:
            while not working.done():
                await self._heed(context, working)
                if not working.done() and context.wish is not Wish.NONE:
                    return YIELDED if context.wish is Wish.PAUSE else b""
            return working.result()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _heed(self, context: Context, working: "asyncio.Future[bytes]") -> None:
        """Return when there is an answer, or something was asked and its grace is over."""
        wished = asyncio.ensure_future(context.wished())
        ends: set[asyncio.Future[Any]] = {working, wished}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if context.wish is Wish.PAUSE:
                await asyncio.wait({working}, timeout=self._grace_s)
        finally:
            wished.cancel()

    async def _work(self, context: Context) -> bytes:
        """The answer. Waits and asks again while the service, and not the request, is why there is none."""
        job = context.job
        spec = decode_spec(job.spec)
        assert job.due_at is not None
        end = self._clock.monotonic() + job.due_at - self._clock.wall()  # the owner's clock may be set meanwhile
        while True:
            left_s = end - self._clock.monotonic()
            try:
                if left_s <= 0:
                    raise DeadlineExceeded
                return _checked(await self._answer(spec, job.key_id, left_s))
            except Overloaded as error:
                context.log(f"waits: {error.message}")
                await asyncio.sleep(min(max(error.retry_after_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S, left_s))
            except PileusError as error:
                await context.checkpoint(encode(Refusal(error.code, Raw(self._speaker.refusal(error)))), "", 0, 0)
                raise JobFailed(error.message, code=error.code) from None

    async def _answer(self, spec: BackgroundSpec, key_id: str, left_s: float) -> bytes:
        body = await read_whole(self._blobs, spec.blob) if spec.blob else bytes(spec.body)
        answering = asyncio.create_task(self._speaker.answer(spec, body, self._principal(key_id), left_s))
        self._answering[key_id].add(answering)
        try:
            return await answering
        except asyncio.CancelledError:
            self._principal(key_id)  # tells that it was closed, if that is why
            raise
        finally:
            self._answering[key_id].discard(answering)
            if not self._answering[key_id]:
                del self._answering[key_id]


def _checked(answer: bytes) -> bytes:
    """Raises `InvalidRequest` for one that is too large to be kept."""
    if len(answer) > MAX_RESULT_BYTES:
        raise InvalidRequest(
            f"the answer has {len(answer)} bytes, and at most {MAX_RESULT_BYTES} may be kept: ask for fewer logprobs, "
            "fewer choices or shorter answers"
        )
    return answer
