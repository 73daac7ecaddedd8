"""A stream from a deployment that has to be started first: comments keep it alive, and its errors become events."""

import asyncio

import httpx
import pytest

from pileus.api import stream
from pileus.core.errors import Overloaded
from unit.api.bench import Bench
from unit.api.scripted import HELLO

ASK = {"model": "clouds", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.02)
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)


def starting(bench: Bench, monkeypatch: pytest.MonkeyPatch, looks: int = 4) -> asyncio.Event:
    """The deployment starts; set after so many looks at how long it will take."""
    ready = asyncio.Event()
    left = iter(range(looks, 0, -1))

    def starting_s(_: str) -> float | None:
        wait_s = next(left, None)
        if wait_s is None or wait_s == 1:
            ready.set()
        return wait_s

    monkeypatch.setattr(bench.directory, "_starting_s", starting_s)
    return ready


async def test_comments_tell_how_long_it_will_take_and_then_the_answer_comes(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pipeline.script = (starting(bench, monkeypatch), *HELLO)
    response = await client.post("/v1/chat/completions", json=ASK)
    comments = [line for line in response.text.splitlines() if line.startswith(":")]
    assert comments == [": starting, about 3 s", ": starting, about 2 s", ": starting, about 1 s"]
    assert '"content":"Hello"' in response.text
    assert response.text.endswith("data: [DONE]\n\n")
    assert "x-pileus-queue-ms" not in response.headers


async def test_a_refusal_after_the_first_comment_is_an_event(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pipeline.script = (starting(bench, monkeypatch), Overloaded("it does not start", retry_after_s=3))
    response = await client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == 200
    assert response.text.splitlines()[-2].startswith('data: {"error":{"message":"it does not start"')
    assert "[DONE]" not in response.text


async def test_a_quick_start_leaves_the_answer_as_it_is_otherwise(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting(bench, monkeypatch, looks=1)
    response = await client.post("/v1/chat/completions", json=ASK)
    assert not response.text.startswith(":")
    assert "x-pileus-queue-ms" in response.headers
