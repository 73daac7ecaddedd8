"""A batch's line is checked and answered as the HTTP route would do it."""

import json
from typing import Any, cast

import httpx
import pytest

from pileus.api.openai.single import FORMS, LineEndpoint, line_endpoints
from pileus.config.settings import Limits
from pileus.core.errors import InvalidRequest, ModelNotFound, Quarantined
from pileus.core.records import Lane, Principal
from unit.api.bench import Bench

CHAT, COMPLETIONS = FORMS
PRINCIPAL = Principal("key_1", "t", "user", frozenset())
BODIES: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]},
        {"model": "default", "messages": [{"role": "user", "content": "hi"}], "n": 1, "service_tier": "flex"},
        {"model": "clouds", "messages": [{"role": "user", "content": "hi"}], "stop": "x", "max_tokens": 3},
    ],
    COMPLETIONS: [
        {"model": "clouds", "prompt": "hi"},
        {"model": "clouds", "prompt": ["hi", "ho"]},
        {"model": "clouds", "prompt": [1, 2, 3]},
    ],
}


@pytest.fixture
def endpoints(bench: Bench) -> dict[str, LineEndpoint]:
    return line_endpoints(cast(Any, bench.pipeline), bench.directory, Limits())


@pytest.mark.parametrize(("path", "body"), [(path, body) for path in BODIES for body in BODIES[path]])
async def test_a_line_has_the_answer_of_the_route(
    path: str, body: dict[str, Any], endpoints: dict[str, LineEndpoint], client: httpx.AsyncClient, bench: Bench
) -> None:
    alone = (await client.post(path, json=body)).json()
    answered = await endpoints[path].answer(json.dumps(body).encode(), PRINCIPAL, "req_line", 60.0)
    line = json.loads(answered.body)
    assert {**line, "id": ""} == {**alone, "id": ""}
    assert answered.usage.completion_tokens == line["usage"]["completion_tokens"]
    requests = [request for _, request in bench.pipeline.requests]
    of_line, of_route = requests[len(requests) // 2 :], requests[: len(requests) // 2]
    assert {(each.lane, each.deadline_s) for each in of_line} == {(Lane.BATCH, 60.0)}
    for line_request, route_request in zip(of_line, of_route, strict=True):
        assert line_request.options == route_request.options
        assert (line_request.messages, line_request.prompt) == (route_request.messages, route_request.prompt)


def test_the_check_names_the_deployment_and_gives_the_text(endpoints: dict[str, LineEndpoint]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    asked = endpoints[CHAT].check(json.dumps({"model": "default", "messages": messages}).encode(), "t")
    assert (asked.deployment, asked.text) == ("clouds", "system\nBe brief.\nuser\nhi\n")
    ids = endpoints[COMPLETIONS].check(json.dumps({"model": "clouds", "prompt": [1, 22]}).encode(), "t")
    assert ids.text == "1 22"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"stream": True}, "stream"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "default"}, "service_tier"),
        ({"temperature": 3}, "temperature"),
        ({"n": 17}, "n"),
        ({"unknown": 1}, "unknown"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_no_line_may_be_is_refused_by_its_name(
    change: dict[str, Any], param: str, endpoints: dict[str, LineEndpoint]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        endpoints[CHAT].check(json.dumps({**BODIES[CHAT][0], **change}).encode(), "t")
    assert refused.value.param == param


def test_a_model_that_is_not_there_is_refused(endpoints: dict[str, LineEndpoint]) -> None:
    with pytest.raises(ModelNotFound):
        endpoints[CHAT].check(json.dumps({**BODIES[CHAT][0], "model": "nobody"}).encode(), "t")


def test_a_refusal_is_the_routes(endpoints: dict[str, LineEndpoint]) -> None:
    status, body = endpoints[CHAT].refusal(Quarantined())
    assert (status, json.loads(body)["error"]["code"]) == (500, "engine_failed")
    status, body = endpoints[CHAT].refusal(ZeroDivisionError("secret"))
    assert (status, b"secret" in body) == (500, False)
