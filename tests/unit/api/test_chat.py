"""`POST /v1/chat/completions`"""

import json
from typing import Any

import httpx
import msgspec
import pytest

from pileus.api.openai.answers import ChatCompletion, ChatCompletionChunk
from pileus.core.errors import EngineFailed, Overloaded
from pileus.core.records import FinishReason, GenerationOptions, Message
from pileus.gateway.records import Delta
from unit.api.bench import Bench
from unit.api.scripted import HELLO, spoken

URL = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]}


def events(response: httpx.Response) -> list[Any]:
    """The data of each server-sent event, parsed; `[DONE]` as it is."""
    found = []
    for block in response.text.split("\n\n")[:-1]:
        data = block.removeprefix("data: ")
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


async def test_a_chat_is_answered_in_openais_shape(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=ASK)
    answer = response.json()
    assert response.status_code == 200
    assert answer.pop("id").startswith("chatcmpl")
    assert answer == {
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": "clouds",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
        "system_fingerprint": None,
    }


async def test_the_headers_tell_where_the_time_went(client: httpx.AsyncClient) -> None:
    whole, streamed = await client.post(URL, json=ASK), await client.post(URL, json=ASK | {"stream": True})
    for response in (whole, streamed):
        assert response.headers["x-pileus-queue-ms"] == "1.00"
        assert response.headers["x-pileus-prefill-ms"] == "20.00"
        assert response.headers["x-pileus-gateway-ms"] == "0.40"
    assert whole.headers["x-pileus-decode-ms"] == "300.00"
    assert whole.headers["server-timing"] == "queue;dur=1.00, prefill;dur=20.00, gateway;dur=0.40, decode;dur=300.00"
    assert "x-pileus-decode-ms" not in streamed.headers


async def test_a_streamed_chat_has_a_role_then_text_then_a_reason_then_done(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=ASK | {"stream": True})
    *chunks, done = events(response)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " world"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_comes_last_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=ASK | {"stream": True, "stream_options": {"include_usage": True}})
    *chunks, last, done = events(response)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7


async def test_usage_so_far_comes_with_every_chunk_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    response = await client.post(URL, json=ASK | {"stream": True, "stream_options": options})
    *chunks, last, _ = events(response)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "Hello", " world", None]
    assert counts[-1] == last["usage"]["completion_tokens"] > 0


async def test_the_choices_of_a_stream_are_told_apart(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.script = (
        [Delta(1, "b", 1), Delta(0, "a", 1)],
        [Delta(0, "A", 1, finish_reason=FinishReason.LENGTH), Delta(1, "", 0, finish_reason=FinishReason.STOP)],
    )
    *chunks, _ = events(await client.post(URL, json=ASK | {"stream": True, "n": 2}))
    said = {0: "", 1: ""}
    for chunk in chunks:
        choice = chunk["choices"][0]
        said[choice["index"]] += choice["delta"].get("content", "") + (choice["finish_reason"] or "")
    assert said == {0: "aAlength", 1: "bstop"}


async def test_any_text_survives_the_prepared_frames(bench: Bench, client: httpx.AsyncClient) -> None:
    odd = 'quote " slash \\ line \n unit \x1f emoji \U0001f32b </script>'
    bench.pipeline.script = ([Delta(0, odd, 1)], [Delta(0, "", 0, finish_reason=FinishReason.STOP)])
    _, chunk, *_ = events(await client.post(URL, json=ASK | {"stream": True}))
    assert chunk["choices"][0]["delta"]["content"] == odd


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_have_tokens_bytes_and_alternatives(
    bench: Bench, client: httpx.AsyncClient, stream: bool
) -> None:
    bench.pipeline.script = (
        [Delta(0, "é", 1, (spoken("é"),))],
        [Delta(0, "", 0, (), FinishReason.STOP)],
    )
    response = await client.post(URL, json=ASK | {"logprobs": True, "top_logprobs": 2, "stream": stream})
    choice = events(response)[1]["choices"][0] if stream else response.json()["choices"][0]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [
                    {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                    {"token": "other", "logprob": -3.0, "bytes": list(b"other")},
                ],
            }
        ],
        "refusal": None,
    }


async def test_what_cannot_happen_has_openais_number_instead_of_minus_infinity(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.pipeline.script = ([Delta(0, "x", 1, (spoken("x", float("-inf")),), FinishReason.STOP)],)
    answer = (await client.post(URL, json=ASK | {"logprobs": True})).json()
    assert answer["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0


async def test_answers_are_what_the_document_says(client: httpx.AsyncClient) -> None:
    msgspec.json.decode((await client.post(URL, json=ASK)).content, type=ChatCompletion)
    for chunk in events(await client.post(URL, json=ASK | {"stream": True}))[:-1]:
        msgspec.convert(chunk, ChatCompletionChunk)


async def test_every_field_reaches_the_pipeline(bench: Bench, client: httpx.AsyncClient) -> None:
    wishes = {
        "max_completion_tokens": 7,
        "n": 2,
        "temperature": 0,
        "top_p": 0.5,
        "presence_penalty": 1,
        "frequency_penalty": -1.5,
        "logit_bias": {"17": -100},
        "seed": -(2**63),
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 3,
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
        "response_format": {"type": "text"},
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
        ],
    }
    response = await client.post(URL, json=ASK | wishes, headers={"x-request-id": "mine-1"})
    assert response.status_code == 200
    principal, request = bench.pipeline.requests[0]
    assert principal.key_id == bench.user_id
    assert request.id == "mine-1"
    assert request.messages == (Message("developer", "be brief"), Message("user", "hello"))
    assert request.options == GenerationOptions(
        max_tokens=7,
        n=2,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        min_p=0.05,
        presence_penalty=1.0,
        frequency_penalty=-1.5,
        repetition_penalty=1.1,
        logit_bias={17: -100.0},
        logprobs=3,
        seed=-(2**63),
        stop=("a", "b"),
        ignore_eos=True,
    )


async def test_a_refusal_before_the_first_token_of_a_stream_has_its_own_status(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.pipeline.refusal = Overloaded("busy", retry_after_s=2.5)
    response = await client.post(URL, json=ASK | {"stream": True})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert response.headers["retry-after-ms"] == "2500"
    assert response.json()["error"]["code"] == "overloaded"


async def test_a_failure_before_the_first_token_of_a_stream_has_its_own_status(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.pipeline.script = (EngineFailed(),)
    assert (await client.post(URL, json=ASK | {"stream": True})).status_code == 500
    assert not bench.pipeline.running


async def test_a_failure_in_mid_stream_is_an_error_event_without_done(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.script = (HELLO[0], EngineFailed("the replica was lost"))
    response = await client.post(URL, json=ASK | {"stream": True})
    *_, text, error = events(response)
    assert response.status_code == 200
    assert text["choices"][0]["delta"] == {"content": "Hello"}
    assert error == {
        "error": {
            "message": "the replica was lost",
            "type": "server_error",
            "param": None,
            "code": "engine_failed",
        }
    }
