"""Background requests as a program sends them and asks for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from acceptance.process import Server, greeting, started

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled")
_LIMIT_S = 90.0


@contextmanager
def mortal_server(config: Path) -> Iterator[Server]:
    """A server on these settings, with its data beside them, that is killed at the end."""
    data = config.parent
    log = data / "mortal.log"
    with log.open("w") as stderr, started(data, "--config", str(config), stderr=stderr) as process:
        yield Server(process, data, greeting(process, log))
        process.kill()


@contextmanager
def http(server: Server, key: str | None = None) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key or server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def question(text: str = "What is a cloud?", **wishes: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": text}], "seed": 7, "max_tokens": 8} | wishes


def ended(client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The request, once it has ended."""
    return until(client, request_id, *ENDED)


def until(client: httpx.Client, request_id: str, *statuses: str) -> dict[str, Any]:
    """The request, once it has one of these."""
    latest = time.monotonic() + _LIMIT_S
    while time.monotonic() < latest:
        found: dict[str, Any] = client.get(f"/v1/background/{request_id}").raise_for_status().json()
        if found["status"] in statuses:
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def said(answer: dict[str, Any]) -> Any:
    """What is the same in two answers to one question."""
    texts = [choice.get("text", choice.get("message")) for choice in answer["choices"]]
    return texts, [choice["finish_reason"] for choice in answer["choices"]], answer["usage"]
