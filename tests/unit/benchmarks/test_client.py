"""The load generator finds the end of every answer, however its bytes are cut, and keeps its connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.answers import read_stream, read_whole
from benchmarks.client import Endpoint, connect, send_each, send_for
from benchmarks.upstream import Upstream


class Dribbling(Upstream):
    """Writes `size` bytes at a time."""

    size = 7

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(_Cutter(transport, self.size))  # type: ignore[arg-type]


class _Cutter:
    def __init__(self, transport: asyncio.BaseTransport, size: int) -> None:
        self._transport, self._size = transport, size
        self._pieces: Iterator[bytes] = iter(())

    def write(self, data: bytes) -> None:
        self._pieces = iter([data[at : at + self._size] for at in range(0, len(data), self._size)])
        self._next()

    def _next(self) -> None:
        piece = next(self._pieces, None)
        if piece is not None:
            self._transport.write(piece)  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_soon(self._next)


@asynccontextmanager
async def upstream(kind: type[Upstream]) -> AsyncIterator[Endpoint]:
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        yield Endpoint(server.sockets[0].getsockname()[1], "/v1/chat/completions")


@pytest.mark.parametrize("kind", [Upstream, Dribbling])
async def test_streams_and_whole_answers_are_read_to_their_end_on_one_connection(kind: type[Upstream]) -> None:
    async with upstream(kind) as endpoint:
        (connection,) = await connect(endpoint, 1)
        for _ in range(2):
            raw = await connection.send(endpoint.request({"max_tokens": 5, "stream": True}))
            assert read_stream(raw, tokens=5).tokens == 5
            raw = await connection.send(endpoint.request({"max_tokens": 3}))
            assert read_whole(raw, tokens=3).tokens == 3
        connection.close()


async def test_each_connection_carries_its_own_request() -> None:
    async with upstream(Upstream) as endpoint:
        connections = await connect(endpoint, 100)
        requests = [endpoint.request({"max_tokens": count, "stream": True}) for count in range(1, 101)]
        answers = await send_each(connections, requests)
        assert [read_stream(raw, tokens).tokens for tokens, raw in enumerate(answers, 1)] == list(range(1, 101))
        for connection in connections:
            connection.close()


async def test_the_closed_loop_finishes_what_it_began() -> None:
    async with upstream(Upstream) as endpoint:
        connections = await connect(endpoint, 4)
        answers = await send_for(connections, endpoint.request({"max_tokens": 2}), duration_s=0.05)
        assert len(answers) >= 4
        assert all(read_whole(raw, tokens=2) for raw in answers)
        for connection in connections:
            connection.close()


async def test_a_lost_connection_is_an_error_and_not_a_figure() -> None:
    class Leaving(Upstream):
        def data_received(self, data: bytes) -> None:
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            self._transport.close()

    async with upstream(Leaving) as endpoint:
        (connection,) = await connect(endpoint, 1)
        with pytest.raises(ConnectionError, match="mid-answer"):
            await connection.send(endpoint.request({}))
