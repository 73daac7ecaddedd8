"""`POST /v1/completions`"""

import json
from typing import Any

import httpx
import pytest

from pileus.core.errors import EngineFailed, InvalidRequest
from pileus.core.records import FinishReason
from pileus.gateway.records import Delta
from unit.api.bench import Bench
from unit.api.scripted import spoken

URL = "/v1/completions"
ASK: dict[str, Any] = {"model": "clouds", "prompt": "once"}


def says(text: str, choice: int = 0) -> list[list[Delta]]:
    return [[Delta(choice, text, 1)], [Delta(choice, "", 0, finish_reason=FinishReason.LENGTH)]]


def events(response: httpx.Response) -> list[Any]:
    return [json.loads(block.removeprefix("data: ")) for block in response.text.split("\n\n")[:-2]]


async def test_a_text_is_continued_in_openais_shape(client: httpx.AsyncClient) -> None:
    answer = (await client.post(URL, json=ASK)).json()
    assert answer.pop("id").startswith("cmpl")
    assert answer == {
        "object": "text_completion",
        "created": 1_750_000_000,
        "model": "clouds",
        "choices": [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}],
        "system_fingerprint": None,
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


async def test_what_vllms_router_writes_into_a_request_is_taken(client: httpx.AsyncClient) -> None:
    written = {"stream": False, "echo": False, "no_stop_trim": False, "ignore_eos": False}
    written |= {"skip_special_tokens": True, "return_hidden_states": False}
    response = await client.post(URL, json=ASK | written)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("max_tokens", [None, 1, 16])
async def test_how_long_an_answer_may_be_is_passed_on_as_it_was_asked(
    bench: Bench, client: httpx.AsyncClient, max_tokens: int | None
) -> None:
    await client.post(URL, json=ASK if max_tokens is None else ASK | {"max_tokens": max_tokens})
    assert bench.pipeline.requests[0][1].options.max_tokens == max_tokens


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [(1, 2)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
    ],
)
async def test_the_four_forms_of_a_prompt(
    bench: Bench, client: httpx.AsyncClient, prompt: Any, expected: list[Any]
) -> None:
    assert (await client.post(URL, json=ASK | {"prompt": prompt})).status_code == 200
    assert [request.prompt for _, request in bench.pipeline.requests] == expected
    assert len({request.id for _, request in bench.pipeline.requests}) == len(expected)


async def test_the_choices_of_several_prompts_follow_one_another(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.scripts = [says("a") + says("b", 1), says("c") + says("d", 1)]
    answer = (await client.post(URL, json=ASK | {"prompt": ["x", "y"], "n": 2})).json()
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (3, "d"),
    ]
    assert answer["usage"]["prompt_tokens"] == 10
    assert answer["usage"]["completion_tokens"] == 4


async def test_a_stream_of_several_prompts_has_all_their_choices(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.scripts = [says("a"), says("b")]
    response = await client.post(URL, json=ASK | {"prompt": ["x", "y"], "stream": True})
    said = {0: "", 1: ""}
    for event in events(response):
        choice = event["choices"][0]
        said[choice["index"]] += choice["text"]
    assert said == {0: "a", 1: "b"}
    assert response.text.endswith("data: [DONE]\n\n")


async def test_where_one_prompt_is_refused_none_goes_on(
    bench: Bench, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = bench.pipeline.start

    async def refuse_the_second(principal: Any, request: Any) -> Any:
        if request.prompt == "bad":
            raise InvalidRequest("no", param="prompt")
        return await started(principal, request)

    monkeypatch.setattr(bench.pipeline, "start", refuse_the_second)
    response = await client.post(URL, json=ASK | {"prompt": ["good", "bad", "fine"]})
    assert response.status_code == 400
    assert not bench.pipeline.running


async def test_where_one_prompt_fails_the_others_end(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.scripts = [says("a") * 50, [EngineFailed()]]
    assert (await client.post(URL, json=ASK | {"prompt": ["x", "y"]})).status_code == 500
    assert not bench.pipeline.running


@pytest.mark.parametrize("stream", [False, True])
async def test_legacy_logprobs_have_offsets_into_the_text(
    bench: Bench, client: httpx.AsyncClient, stream: bool
) -> None:
    bench.pipeline.script = (
        [Delta(0, "ab", 1, (spoken("ab"),))],
        [Delta(0, "c", 1, (spoken("c"),), FinishReason.LENGTH)],
    )
    response = await client.post(URL, json=ASK | {"logprobs": 2, "stream": stream})
    pieces = events(response) if stream else [response.json()]
    found = [piece["choices"][0]["logprobs"] for piece in pieces]
    assert [token for part in found for token in part["tokens"]] == ["ab", "c"]
    assert [offset for part in found for offset in part["text_offset"]] == [0, 2]
    assert [logprob for part in found for logprob in part["token_logprobs"]] == [-0.5, -0.5]
    assert found[0]["top_logprobs"][0] == {"ab": -0.5, "other": -3.0}
