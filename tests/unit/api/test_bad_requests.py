"""What is wrong with a request is told by name, and nothing of it reaches the pipeline."""

import json
from typing import Any

import httpx
import pytest

from unit.api.bench import Bench

CHAT = "/v1/chat/completions"
COMPLETE = "/v1/completions"
ASK: dict[str, Any] = {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]}
CONTINUE: dict[str, Any] = {"model": "clouds", "prompt": "hi"}

BAD_CHATS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"max_tokens": "10"}, "max_tokens", "a valid integer"),
    ({"max_tokens": True}, "max_tokens", "a valid integer"),
    ({"max_tokens": 1.5}, "max_tokens", "a valid integer"),
    ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": -1}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": 2**63}, "max_tokens", "less than or equal to"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, None, "differ"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": 17}, "n", "at most 16 on this server"),
    ({"n": 10**9}, "n", "less than or equal to"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
    ({"temperature": "hot"}, "temperature", "a valid number"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
    ({"logit_bias": {"five": 1}}, "logit_bias", "token ids"),
    ({"logprobs": 5}, "logprobs", "a valid boolean"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"logprobs": True, "top_logprobs": 10**6}, "top_logprobs", "less than or equal to 20"),
    ({"top_logprobs": 2}, None, "`top_logprobs` needs `logprobs: true`"),
    ({"seed": 2**63}, "seed", "less than or equal to"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4 items"),
    ({"stop": ""}, "stop", "at least 1 character"),
    ({"stop": ["a", 5]}, "stop[1]", "a valid string"),
    ({"stream": "yes"}, "stream", "a valid boolean"),
    ({"stream_options": {"include_usage": True}}, None, "`stream_options` is only for `stream: true`"),
    ({"stream": True, "stream_options": {"obfuscate": True}}, "stream_options.obfuscate", "not a field"),
    ({"messages": []}, "messages", "at least 1 item"),
    ({"messages": "hi"}, "messages", "a valid list"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "required"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "'user'"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role", "`tool` are not supported yet"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "a valid string"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "at least 1 item"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://[::1]"}}]}]},
        "messages[0].content[0].image_url",
        "not a field",
    ),
    ({"messages": [{"role": "user", "content": "hi", "name": "eve"}]}, "messages[0].name", "not a field"),
    ({"response_format": {"type": "json_object"}}, "response_format.type", "'text'"),
    ({"tools": []}, "tools", "not a field"),
    ({"user": "eve"}, "user", "not a field"),
    ({"model": ""}, "model", "at least 1 character"),
    ({"model": None}, "model", "a valid string"),
]

BAD_COMPLETIONS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"prompt": []}, "prompt", "at least 1 item"),
    ({"prompt": [[]]}, "prompt[0]", "at least 1 item"),
    ({"prompt": [1, "two"]}, None, "valid"),
    ({"prompt": [-1]}, "prompt[0]", "greater than or equal to 0"),
    ({"prompt": {"embeds": "gASVAAAA"}}, "prompt", "valid"),
    ({"echo": True}, "echo", "`echo: true` is not supported"),
    ({"suffix": "x"}, "suffix", "not a field"),
    ({"skip_special_tokens": False}, "skip_special_tokens", "True"),
    ({"no_stop_trim": True}, "no_stop_trim", "False"),
    ({"return_hidden_states": True}, "return_hidden_states", "False"),
    ({"best_of": 3}, None, "`best_of` is supported only where it equals `n`"),
    ({"logprobs": 6}, "logprobs", "less than or equal to 5"),
    ({"logprobs": True}, "logprobs", "a valid integer"),
    ({"prompt": ["a"] * 17}, "n", "at most 16"),
    ({"messages": []}, "messages", "not a field"),
]


@pytest.mark.parametrize(
    ("url", "good", "change", "param", "message"),
    [(CHAT, ASK, *case) for case in BAD_CHATS] + [(COMPLETE, CONTINUE, *case) for case in BAD_COMPLETIONS],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
async def test_a_bad_field_is_named(
    bench: Bench,
    client: httpx.AsyncClient,
    url: str,
    good: dict[str, Any],
    change: dict[str, Any],
    param: str | None,
    message: str,
) -> None:
    response = await client.post(url, json=good | change)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert message in error["message"]
    if param is not None:
        assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert not bench.pipeline.requests


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b"{", "EOF while parsing an object at line 1 column 1"),
        (b'{"model": "clouds",}', "line 1 column 20"),
        (b'{"model": "clouds"} {}', "trailing characters"),
        (b'{"model": "a", "model": "b"}', "duplicate key"),
        (b'{"temperature": NaN}', "expected value"),
        (b'{"temperature": Infinity}', "expected value"),
        (b'{"model": "\\ud800"}', "hex escape"),
        (b'{"model": "\xed\xa0\x80"}', "unicode"),
        (b'{"model": "\xff"}', "unicode"),
        (b'{"model": "\x00"}', "control character"),
        (b'{"model": "\\u0000"}', "NUL"),
        (b'{"metadata": {"a": ["\\u0000"]}}', "NUL"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "out of range"),
        (b'{"messages": ' + b"[" * 100_000, "recursion limit"),
        (b"[]", "the body should be an object"),
        (b'"chat"', "the body should be an object"),
        (b"null", "the body should be an object"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_bad_body_is_told_with_its_place(
    bench: Bench, client: httpx.AsyncClient, body: bytes, message: str
) -> None:
    response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert not bench.pipeline.requests


@pytest.mark.parametrize("number", [b"1e400", b"-1e400"])
async def test_a_number_beyond_all_floats_is_refused(client: httpx.AsyncClient, number: bytes) -> None:
    body = json.dumps(ASK | {"temperature": 0.5}).encode().replace(b"0.5", number)
    response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "temperature"


async def test_an_escaped_backslash_before_u0000_is_no_nul(client: httpx.AsyncClient) -> None:
    ask = ASK | {"messages": [{"role": "user", "content": "\\u0000"}]}
    assert (await client.post(CHAT, json=ask)).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_does_not_say_json_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post(CHAT, content=json.dumps(ASK), headers={"content-type": content_type})
    assert response.status_code == 415


async def test_a_charset_beside_the_type_is_no_harm(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await client.post(CHAT, content=json.dumps(ASK), headers=headers)).status_code == 200


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post(CHAT, json=ASK, headers={"content-encoding": "gzip"})).status_code == 415


async def test_a_body_over_the_cap_is_refused_by_its_length(client: httpx.AsyncClient) -> None:
    response = await client.post(
        CHAT, content=b" " * (4 * 1024 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert "4194304 bytes" in response.json()["error"]["message"]


async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=ASK | {"model": "rain"})
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "the model 'rain' does not exist; there is: clouds, default",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
