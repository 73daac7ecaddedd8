"""Sends an answer while it is made, as server-sent events, and collects one that is sent as a whole.

The status line waits for the first delta: until then a refusal still has its proper status, and by then the headers
can tell where the time went. Only where a deployment has to be started first does it go ahead, with comments that keep
the connection alive. After that each wait is for the next deltas only; a slow reader holds up `send`, and the
connection's write deadline ends a reader that stopped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Protocol

from msgspec.json import encode
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pileus.api.errors import RawHeaders, event
from pileus.api.presence import Presence
from pileus.core.errors import PileusError
from pileus.gateway.records import Delta, Timings, Usage

SILENCE_S = 2.0  # a client that waits for a start hears of it after this
KEEP_ALIVE_S = 3.0  # and again each time
DONE = b"data: [DONE]\n\n"
STREAM_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Source(Protocol):
    """An answer in the making: a `Generation`, or several as one."""

    deployment: str
    created: int  # wall clock, in whole seconds

    async def next(self, *, whole: bool = False) -> list[Delta]: ...

    def cancel(self) -> None: ...

    @property
    def usage(self) -> Usage: ...

    @property
    def timings(self) -> Timings: ...


class Chunks(Protocol):
    """The wire form of a stream's events."""

    def encode(self, deltas: list[Delta]) -> bytes:
        """These deltas as events; may be empty."""
        ...

    def end(self, usage: Usage) -> bytes:
        """What follows the last delta, before `[DONE]`."""
        ...


Begin = Callable[[], Awaitable[tuple[Source, Chunks]]]
StartingIn = Callable[[str], float | None]  # see `fleet.directory.Directory.starting_s`


class EventStream:
    """An ASGI response: begins the work when it is called, so that the client's presence spans all of it."""

    def __init__(self, presence: Presence, begin: Begin) -> None:
        self._presence = presence
        self._begin = begin
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._presence:
                source, chunks = await self._begin()
                try:
                    deltas = await self._first(source, scope["app"].state.services.directory.starting_s, send)
                    if not self._started:
                        await self._start(send, timing_headers(source.timings, finished=False))
                    await _send_events(source, chunks, deltas, send)
                except BaseException:
                    source.cancel()
                    raise
        except PileusError as error:
            if self._started:
                await send({"type": "http.response.body", "body": event(error)})
            raise

    async def _start(self, send: Send, more: RawHeaders) -> None:
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *more]})

    async def _first(self, source: Source, starting_in: StartingIn, send: Send) -> list[Delta]:
        """The first deltas. While the deployment starts, the client is told every few seconds that it will serve."""
        if starting_in(source.deployment) is None:
            return await source.next()
        first = asyncio.ensure_future(source.next())
        try:
            await asyncio.wait({first}, timeout=SILENCE_S)
            while not first.done() and (wait_s := starting_in(source.deployment)) is not None:
                if not self._started:
                    await self._start(send, [])
                comment = b": starting, about %d s\n\n" % ceil(wait_s)
                await send({"type": "http.response.body", "body": comment, "more_body": True})
                await asyncio.wait({first}, timeout=KEEP_ALIVE_S)
            return await first
        finally:
            first.cancel()


async def _send_events(source: Source, chunks: Chunks, deltas: list[Delta], send: Send) -> None:
    while deltas:
        body = chunks.encode(deltas)
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        deltas = await source.next()
    await send({"type": "http.response.body", "body": chunks.end(source.usage) + DONE})


async def collect(source: Source) -> list[Delta]:
    """All deltas of an answer; if it is interrupted, so is the work on it."""
    found: list[Delta] = []
    try:
        while deltas := await source.next(whole=True):
            found += deltas
    except BaseException:
        source.cancel()
        raise
    return found


def timing_headers(timings: Timings, *, finished: bool) -> RawHeaders:
    """Where the time went, in milliseconds; a stream's headers leave before decoding has an end."""
    queue, prefill, gateway = timings.queue_s * 1e3, timings.prefill_s * 1e3, timings.gateway_s * 1e3
    headers = [
        (b"x-pileus-queue-ms", b"%.2f" % queue),
        (b"x-pileus-prefill-ms", b"%.2f" % prefill),
        (b"x-pileus-gateway-ms", b"%.2f" % gateway),
    ]
    phases = b"queue;dur=%.2f, prefill;dur=%.2f, gateway;dur=%.2f" % (queue, prefill, gateway)
    if finished:
        decode = timings.decode_s * 1e3
        headers.append((b"x-pileus-decode-ms", b"%.2f" % decode))
        phases += b", decode;dur=%.2f" % decode
    headers.append((b"server-timing", phases))
    return headers


class JsonAnswer(Response):
    """A record as JSON, with further headers if there are any."""

    media_type = "application/json"

    def __init__(self, content: object, extra: RawHeaders | None = None, status_code: int = 200) -> None:
        super().__init__(encode(content), status_code=status_code)
        if extra:
            self.raw_headers += extra
