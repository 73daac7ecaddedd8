"""A client that leaves, seen from a real connection."""

import asyncio
import json
from typing import Any

import pytest

from unit.api.bench import Bench, listening
from unit.api.scripted import HELLO

ASK: dict[str, Any] = {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]}


def chat(bench: Bench, path: str = "/v1/chat/completions", key: str = "", **wishes: Any) -> bytes:
    """A chat request as it travels."""
    body = json.dumps((ASK if "prompt" not in wishes else {"model": "clouds"}) | wishes).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: pileus\r\nauthorization: Bearer {key or bench.user}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_token_ends_its_generation(bench: Bench, stream: bool) -> None:
    bench.pipeline.script = (asyncio.Event(),)
    async with listening(bench) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, stream=stream))
        await bench.pipeline.reached.wait()
        writer.close()
        await asyncio.wait_for(bench.pipeline.left.wait(), 5)
    assert len(bench.pipeline.cancelled) == 1
    assert not bench.pipeline.running


async def test_a_client_that_leaves_in_mid_stream_ends_its_generation(bench: Bench) -> None:
    bench.pipeline.script = (HELLO[0], asyncio.Event())
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, stream=True))
        await reader.readuntil(b'"content":"Hello"')
        await bench.pipeline.reached.wait()
        writer.close()
        await asyncio.wait_for(bench.pipeline.left.wait(), 5)
    assert not bench.pipeline.running


async def test_a_client_that_leaves_ends_all_prompts_of_its_request(bench: Bench) -> None:
    bench.pipeline.script = (asyncio.Event(),)
    async with listening(bench) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, "/v1/completions", prompt=["a", "b", "c"]))
        while len(bench.pipeline.requests) < 3:
            await bench.pipeline.reached.wait()
        writer.close()
        await asyncio.wait_for(bench.pipeline.left.wait(), 5)
        assert not bench.pipeline.running
    assert len(bench.pipeline.cancelled) == 3


async def test_a_client_that_stays_has_its_connection_kept(bench: Bench) -> None:
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for stream in (False, True, False):
            writer.write(chat(bench, stream=stream))
            await reader.readuntil(b"0\r\n\r\n" if stream else b'"system_fingerprint":null}')
        writer.close()
    assert not bench.pipeline.cancelled


async def test_a_revoked_key_ends_its_stream_with_an_error_and_no_done(bench: Bench) -> None:
    bench.pipeline.script = (HELLO[0], asyncio.Event())
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, stream=True))
        await reader.readuntil(b'"content":"Hello"')
        await bench.services.keys.revoke(bench.user_id)
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 1)
        assert b"This API key was revoked." in rest
        assert b"[DONE]" not in rest
        writer.write(chat(bench))
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
    assert len(bench.pipeline.cancelled) == 1


async def test_a_key_that_expires_ends_its_stream_as_a_revoked_one_does(bench: Bench) -> None:
    key, secret = await bench.services.keys.create("brief", "user", expires_at=bench.clock.wall() + 60)
    bench.pipeline.script = (HELLO[0], asyncio.Event())
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, key=secret, stream=True))
        await reader.readuntil(b'"content":"Hello"')
        bench.clock.advance(59)
        bench.services.keys.expire()
        assert not bench.pipeline.cancelled
        bench.clock.advance(1)
        bench.services.keys.expire()
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b'{"error":{"message":"This API key has expired.","type":"authentication_error"' in rest
        assert b"[DONE]" not in rest
        writer.write(chat(bench, key=secret))
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
    assert len(bench.pipeline.cancelled) == 1
    written = bench.services.audit.flush()
    assert written is not None
    written.result()
    reasons = [(event.actor, event.outcome) for _, event in await bench.services.audit.latest(2)]
    assert reasons == [(key.id, "expired")] * 2


@pytest.mark.parametrize("ending", ["expired", "revoked"])
async def test_a_key_that_is_closed_while_the_body_comes_in_begins_nothing(bench: Bench, ending: str) -> None:
    key, secret = await bench.services.keys.create("brief", "user", expires_at=bench.clock.wall() + 60)
    head, _, body = chat(bench, key=secret, stream=True).partition(b"\r\n\r\n")
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # who calls is known
        if ending == "revoked":
            await bench.services.keys.revoke(key.id)
        else:
            bench.clock.advance(60)
            bench.services.keys.expire()
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
    assert not bench.pipeline.requests


async def test_live_figures_end_when_the_server_stops(bench: Bench) -> None:
    bench.services.series.sample(1.0, 1.0)
    async with listening(bench) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /admin/v1/live HTTP/1.1\r\nhost: x\r\nx-api-key: " + bench.admin.encode() + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()


async def test_an_answer_that_outlasts_the_drain_ends_with_an_error_that_says_so(bench: Bench) -> None:
    bench.pipeline.script = (HELLO[0], asyncio.Event())
    async with listening(bench, drain_s=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat(bench, stream=True))
        await reader.readuntil(b'"content":"Hello"')
    rest = await reader.read()
    assert b"The server is stopping" in rest
    assert b"[DONE]" not in rest
    writer.close()
    assert len(bench.pipeline.cancelled) == 1
