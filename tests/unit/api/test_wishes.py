"""The lane, priority and deadline of a request: what it may wish for, and how that reaches the pipeline."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from pileus.api.openai.answers import ChatCompletion, ChatCompletionChunk, Completion
from pileus.core.records import GenerationRequest, Lane
from unit.api.bench import Bench

CHAT: tuple[str, dict[str, Any]] = (
    "/v1/chat/completions",
    {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]},
)
COMPLETE: tuple[str, dict[str, Any]] = ("/v1/completions", {"model": "clouds", "prompt": ["hi", "ho"]})
BOTH = pytest.mark.parametrize(("url", "ask"), [CHAT, COMPLETE], ids=["chat", "completions"])


@pytest.fixture
async def rich(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose key may use every lane, and priorities up to 5."""
    _, secret = await bench.services.keys.create("rich", "user", lanes=list(Lane), max_priority=5)
    async with client_of(bench, secret) as found:
        yield found


def client_of(bench: Bench, secret: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(bench.app), base_url="http://pileus", headers=headers)


def wishes(request: GenerationRequest) -> tuple[Lane, int, float | None]:
    return request.lane, request.priority, request.deadline_s


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["param"], error["message"]


@BOTH
async def test_without_a_wish_a_request_is_on_demand_and_has_no_tier(
    bench: Bench, client: httpx.AsyncClient, url: str, ask: dict[str, Any]
) -> None:
    answer = (await client.post(url, json=ask)).json()
    assert "service_tier" not in answer
    assert {wishes(request) for _, request in bench.pipeline.requests} == {(Lane.ON_DEMAND, 0, None)}


@BOTH
async def test_headers_fill_the_request(bench: Bench, rich: httpx.AsyncClient, url: str, ask: dict[str, Any]) -> None:
    headers = {"x-pileus-lane": "continuous", "X-Pileus-Priority": "-7", "x-pileus-deadline-ms": "1500"}
    response = await rich.post(url, json=ask, headers=headers)
    assert response.status_code == 200
    assert {wishes(request) for _, request in bench.pipeline.requests} == {(Lane.CONTINUOUS, -7, 1.5)}


@BOTH
@pytest.mark.parametrize(
    ("tier", "lane", "served"),
    [
        ("auto", Lane.ON_DEMAND, "default"),
        ("default", Lane.ON_DEMAND, "default"),
        ("flex", Lane.BATCH, "flex"),
        ("priority", Lane.CONTINUOUS, "priority"),
    ],
)
async def test_the_service_tier_names_a_lane_and_is_told_back(
    bench: Bench, rich: httpx.AsyncClient, url: str, ask: dict[str, Any], tier: str, lane: Lane, served: str
) -> None:
    whole = await rich.post(url, json=ask | {"service_tier": tier})
    assert whole.json()["service_tier"] == served
    streamed = await rich.post(url, json=ask | {"service_tier": tier, "stream": True})
    *events, done = [block.removeprefix("data: ") for block in streamed.text.split("\n\n")[:-1]]
    assert done == "[DONE]"
    assert {json.loads(event)["service_tier"] for event in events} == {served}
    assert {request.lane for _, request in bench.pipeline.requests} == {lane}


async def test_answers_with_a_tier_are_what_the_document_says(rich: httpx.AsyncClient) -> None:
    for (url, ask), whole, piece in ((CHAT, ChatCompletion, ChatCompletionChunk), (COMPLETE, Completion, Completion)):
        wish = ask | {"service_tier": "flex"}
        msgspec.json.decode((await rich.post(url, json=wish)).content, type=whole)
        for block in (await rich.post(url, json=wish | {"stream": True})).text.split("\n\n")[:-2]:
            msgspec.json.decode(block.removeprefix("data: "), type=piece)


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("x-pileus-lane", "express", "one of on_demand, continuous, batch"),
        ("x-pileus-lane", "", "one of"),
        ("x-pileus-lane", "Batch", "one of"),
        ("x-pileus-lane", "batch, continuous", "one of"),
        ("x-pileus-priority", "high", "a whole number from -100 to 100"),
        ("x-pileus-priority", "", "a whole number"),
        ("x-pileus-priority", "1.0", "a whole number"),
        ("x-pileus-priority", "+1", "a whole number"),
        ("x-pileus-priority", "1_0", "a whole number"),
        ("x-pileus-priority", "101", "a whole number"),
        ("x-pileus-priority", "-101", "a whole number"),
        ("x-pileus-priority", "9" * 5000, "a whole number"),
        ("x-pileus-deadline-ms", "soon", "a whole number from 1 to 600000"),
        ("x-pileus-deadline-ms", "0", "a whole number"),
        ("x-pileus-deadline-ms", "-5", "a whole number"),
        ("x-pileus-deadline-ms", "1e3", "a whole number"),
        ("x-pileus-deadline-ms", "nan", "a whole number"),
        ("x-pileus-deadline-ms", "600001", "a whole number"),
    ],
)
async def test_a_bad_header_is_named(
    bench: Bench, rich: httpx.AsyncClient, header: str, value: str, message: str
) -> None:
    status, param, told = error_of(await rich.post(CHAT[0], json=CHAT[1], headers={header: value}))
    assert (status, param) == (400, header)
    assert f"the header {header} should be" in told
    assert message in told
    assert not bench.pipeline.requests


async def test_a_tier_that_is_none_is_named(bench: Bench, rich: httpx.AsyncClient) -> None:
    status, param, told = error_of(await rich.post(CHAT[0], json=CHAT[1] | {"service_tier": "scale"}))
    assert (status, param) == (400, "service_tier")
    assert "'flex'" in told


@pytest.mark.parametrize("header", ["x-pileus-lane", "x-pileus-priority", "x-pileus-deadline-ms"])
async def test_a_header_that_comes_twice_is_refused(bench: Bench, rich: httpx.AsyncClient, header: str) -> None:
    value = "batch" if header == "x-pileus-lane" else "1"
    headers = [*rich.headers.items(), (header, value), (header, value)]
    response = await rich.post(CHAT[0], json=CHAT[1], headers=headers)
    assert response.status_code == 400
    assert f"the header {header} was sent twice" in response.json()["error"]["message"]
    assert not bench.pipeline.requests


@pytest.mark.parametrize(("lane", "tier"), [("batch", "priority"), ("continuous", "default"), ("on_demand", "flex")])
async def test_a_header_and_a_tier_that_disagree_are_refused(
    bench: Bench, rich: httpx.AsyncClient, lane: str, tier: str
) -> None:
    response = await rich.post(CHAT[0], json=CHAT[1] | {"service_tier": tier}, headers={"x-pileus-lane": lane})
    status, param, told = error_of(response)
    assert (status, param) == (400, "x-pileus-lane")
    assert lane in told
    assert tier in told
    assert not bench.pipeline.requests


@pytest.mark.parametrize(("lane", "tier"), [("batch", "flex"), ("continuous", "priority"), ("continuous", "auto")])
async def test_a_header_and_a_tier_that_agree_are_one_wish(
    bench: Bench, rich: httpx.AsyncClient, lane: str, tier: str
) -> None:
    response = await rich.post(CHAT[0], json=CHAT[1] | {"service_tier": tier}, headers={"x-pileus-lane": lane})
    assert response.json()["service_tier"] == {"batch": "flex", "continuous": "priority"}[lane]
    assert bench.pipeline.requests[0][1].lane == lane


# --- rights ---


@BOTH
@pytest.mark.parametrize(
    ("headers", "body", "param", "allowed"),
    [
        ({"x-pileus-lane": "continuous"}, {}, "x-pileus-lane", "on_demand (`service_tier` default), batch"),
        ({}, {"service_tier": "priority"}, "service_tier", "on_demand (`service_tier` default), batch"),
        ({"x-pileus-priority": "1"}, {}, "x-pileus-priority", "-100 to 0"),
        ({"x-pileus-priority": "100"}, {}, "x-pileus-priority", "-100 to 0"),
    ],
)
async def test_a_wish_beyond_the_keys_rights_is_refused_with_what_it_may_use(
    bench: Bench,
    client: httpx.AsyncClient,
    url: str,
    ask: dict[str, Any],
    headers: dict[str, str],
    body: dict[str, Any],
    param: str,
    allowed: str,
) -> None:
    response = await client.post(url, json=ask | body, headers=headers)
    status, named, told = error_of(response)
    assert (status, named) == (403, param)
    assert f"It may use: {allowed}" in told
    assert response.json()["error"]["code"] == "permission_denied"
    assert not bench.pipeline.requests


async def test_a_key_without_on_demand_has_its_first_lane_where_none_is_named(bench: Bench) -> None:
    _, secret = await bench.services.keys.create("nightly", "user", lanes=["batch"])
    async with client_of(bench, secret) as nightly:
        for body in ({}, {"service_tier": "auto"}):
            assert (await nightly.post(CHAT[0], json=CHAT[1] | body)).status_code == 200
        refused = await nightly.post(CHAT[0], json=CHAT[1] | {"service_tier": "default"})
    assert refused.status_code == 403
    assert [request.lane for _, request in bench.pipeline.requests] == [Lane.BATCH, Lane.BATCH]


@pytest.mark.parametrize("priority", ["5", "0", "-100"])
async def test_priorities_up_to_the_keys_own_pass(bench: Bench, rich: httpx.AsyncClient, priority: str) -> None:
    response = await rich.post(CHAT[0], json=CHAT[1], headers={"x-pileus-priority": priority})
    assert response.status_code == 200
    assert bench.pipeline.requests[0][1].priority == int(priority)
    assert (await rich.post(CHAT[0], json=CHAT[1], headers={"x-pileus-priority": "6"})).status_code == 403


async def test_an_admin_has_no_lane_or_priority_but_what_its_key_says(admin: httpx.AsyncClient) -> None:
    for headers in ({"x-pileus-lane": "continuous"}, {"x-pileus-priority": "1"}):
        assert (await admin.post(CHAT[0], json=CHAT[1], headers=headers)).status_code == 403
