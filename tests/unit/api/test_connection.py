"""The bounds of a connection, over a real socket. Deadlines are shortened, since nothing else can hurry a clock that
uvloop owns."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from pileus.api import body, connection
from pileus.gateway.records import Delta
from unit.api.bench import Bench, listening


@pytest.fixture
async def port(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "LINGER_S", 0.2)
    async with listening(bench) as found:
        yield found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those who wait for a deadline; others might miss it."""
    for name in ("HEAD_DEADLINE_S", "WRITE_DEADLINE_S"):
        monkeypatch.setattr(connection, name, 0.2)
    monkeypatch.setattr(body, "BODY_DEADLINE_S", 0.2)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""


@pytest.mark.usefixtures("hurried")
async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ended(reader) == b""
    writer.close()


@pytest.mark.usefixtures("hurried")
async def test_a_head_that_never_ends_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    assert await ended(reader) == b""
    writer.close()


@pytest.mark.usefixtures("hurried")
async def test_a_second_head_that_never_ends_is_closed_too(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b'"ok"}')
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    assert await ended(reader) == b""
    writer.close()


@pytest.mark.usefixtures("hurried")
async def test_a_body_that_never_ends_is_answered_and_closed(bench: Bench, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
        b"authorization: Bearer " + bench.user.encode() + b"\r\n\r\n{"
    )
    answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
    writer.close()


@pytest.mark.usefixtures("hurried")
async def test_a_reader_that_stops_reading_is_closed_and_its_generation_ends(bench: Bench, port: int) -> None:
    bench.pipeline.script = ([Delta(0, "x" * 4_000_000, 1)], [Delta(0, "y" * 4_000_000, 1)], asyncio.Event())
    body = json.dumps({"model": "clouds", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + bench.user.encode() + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    await asyncio.wait_for(bench.pipeline.left.wait(), 5)
    assert not bench.pipeline.running
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 300_000,
        b"GET /healthz HTTP/1.1\r\n" + b"x-many: 1\r\n" * 10_000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x-many: 1\r\n" * 101 + b"\r\n",
    ],
    ids=["one long", "ten thousand", "one too many"],
)
async def test_too_large_a_head_is_told_so(port: int, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = await ended(reader)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"x-request-id: req_" in answer
    writer.close()


async def test_what_is_not_http_is_told_so(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert (await ended(reader)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_requests_in_a_row_without_waiting_are_each_answered(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 3)
    for _ in range(3):
        await asyncio.wait_for(reader.readuntil(b'"ok"}'), 5)
    writer.close()
