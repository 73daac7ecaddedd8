"""The load generator: raw sockets, keep-alive, and as little work as possible while the clock runs.

It shares its processor core with what it measures. So it only notes which bytes came when, and finds a response's end
from its framing; reading and checking the answer is the work of `answers`, afterwards.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, cast

from msgspec import Struct

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"  # no JSON and no event ends like this, so a look at the tail is enough


class RawAnswer(Struct):
    """One response as it came: when the request was sent, and each read from the socket with its time."""

    sent_s: float
    arrivals: list[tuple[float, bytes]]


class Endpoint(Struct, frozen=True):
    """Where requests go, and with which key."""

    port: int
    path: str
    key: str = ""
    host: str = "127.0.0.1"

    def request(self, body: Mapping[str, Any]) -> bytes:
        """The bytes of one POST."""
        payload = json.dumps(body, separators=(",", ":")).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.key or 'none'}\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer = RawAnswer(0.0, [])
        self._done: asyncio.Future[RawAnswer] | None = None
        self._head = b""
        self._missing: int | None = None  # body bytes still to come; None: chunked, or the head is incomplete
        self._tail = b""

    async def send(self, request: bytes) -> RawAnswer:
        """Send one request and wait for the end of its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server closed a keep-alive connection")
        self._done = asyncio.get_running_loop().create_future()
        self._answer = RawAnswer(perf_counter(), [])
        self._head, self._missing, self._tail = b"", None, b""
        self._transport.write(request)
        return await self._done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._answer.arrivals.append((perf_counter(), data))
        if self._missing is not None:
            self._missing -= len(data)
            if self._missing <= 0:
                self._finish()
        elif self._tail:
            self._tail = (self._tail + data)[-5:]
            if self._tail == _LAST_CHUNK:
                self._finish()
        else:
            self._read_head(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"the connection was lost in mid-answer: {exc or 'closed'}"))

    def _read_head(self, data: bytes) -> None:
        self._head += data
        head, separator, body = self._head.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _CONTENT_LENGTH.search(head)
        if length:
            self._missing = int(length[1]) - len(body)
            if self._missing <= 0:
                self._finish()
        elif _CHUNKED.search(head):
            self._tail = (separator + body)[-5:]
            if self._tail == _LAST_CHUNK:
                self._finish()
        elif self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("an answer with neither a length nor chunks"))

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._answer)


async def connect(endpoint: Endpoint, count: int) -> list[Connection]:
    """Open `count` connections, a few at a time, so that a listen queue of any length will do."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    for start in range(0, count, 64):
        batch = (
            loop.create_connection(Connection, endpoint.host, endpoint.port) for _ in range(min(64, count - start))
        )
        opened.extend(protocol for _, protocol in await asyncio.gather(*batch))
    return opened


async def send_each(connections: Iterable[Connection], requests: Iterable[bytes]) -> list[RawAnswer]:
    """One request per connection, all at once."""
    pairs = zip(connections, requests, strict=True)
    return await asyncio.gather(*(connection.send(request) for connection, request in pairs))


async def send_for(
    connections: Iterable[Connection],
    request: bytes,
    duration_s: float,
    on_answer: Callable[[], None] = lambda: None,
) -> list[RawAnswer]:
    """The closed loop: each connection sends the request again and again; what was begun in time is finished."""
    end_s = perf_counter() + duration_s

    async def repeat(connection: Connection) -> list[RawAnswer]:
        answers = []
        while perf_counter() < end_s:
            answers.append(await connection.send(request))
            on_answer()
        return answers

    return [answer for some in await asyncio.gather(*map(repeat, connections)) for answer in some]
