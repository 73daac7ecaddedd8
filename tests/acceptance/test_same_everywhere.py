"""One request, asked in every way that there is: the same text, and the same usage."""

import json
import time
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from openai import OpenAI

from acceptance.process import Server

_CHAT = "/v1/chat/completions"
_MODEL = "smollm2-exact"
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {
        "messages": [{"role": "user", "content": "Name three colours of the sky at dusk."}],
        "temperature": 0,
        "max_tokens": 24,
    },
    "drawn": {
        "messages": [
            {"role": "system", "content": "You are a poet."},
            {"role": "user", "content": "天空为什么是蓝色的?"},
        ],
        "temperature": 0.9,
        "top_p": 0.95,
        "seed": 11,
        "n": 2,
        "max_tokens": 20,
        "stop": ["."],
    },
}


@pytest.fixture(scope="module")
def http(server: Server) -> Iterable[httpx.Client]:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=60) as client:
        yield client


def of_answer(answer: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The choices' texts, and the usage."""
    return [choice["message"]["content"] for choice in answer["choices"]], answer["usage"]


def streamed(client: OpenAI, body: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    texts: list[str] = [""] * body.get("n", 1)
    usage: dict[str, Any] = {}
    for chunk in client.chat.completions.create(
        **body, model=_MODEL, stream=True, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        if chunk.usage is not None:
            usage = chunk.usage.model_dump(exclude_none=True)
    return texts, usage


def in_background(http: httpx.Client, body: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    begun = http.post(_CHAT, json={**body, "model": _MODEL, "background": True})
    assert begun.status_code == 202, begun.text
    while (found := http.get(begun.headers["location"]).json())["status"] in ("queued", "in_progress"):
        time.sleep(0.05)
    assert found["status"] == "completed", found
    return of_answer(found["response"])


def in_a_batch(client: OpenAI) -> dict[str, tuple[list[str], dict[str, Any]]]:
    lines = [
        json.dumps({"custom_id": name, "method": "POST", "url": _CHAT, "body": {**body, "model": _MODEL}})
        for name, body in ASKED.items()
    ]
    stored = client.files.create(file=("asked.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=stored.id, endpoint=_CHAT, completion_window="24h")
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.output_file_id is not None
    found = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
    return {line["custom_id"]: of_answer(line["response"]["body"]) for line in found}


def test_a_request_has_one_text_and_one_usage_however_it_is_asked(openai_client: OpenAI, http: httpx.Client) -> None:
    for body in ASKED.values():  # from now on all find the same in the prefix cache
        openai_client.chat.completions.create(**body, model=_MODEL)
    batched = in_a_batch(openai_client)
    for name, body in ASKED.items():
        whole = of_answer(http.post(_CHAT, json={**body, "model": _MODEL}).json())
        assert all(whole[0])
        assert streamed(openai_client, body) == whole
        assert in_background(http, body) == whole
        assert batched[name] == whole
