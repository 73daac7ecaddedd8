"""Names, headers, keys and permissions: what every request meets before its handler."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from pileus.api.app import refuse_unguarded
from pileus.api.route import PUBLIC, Call, GuardedRoute, Public
from pileus.security.permission import Permission
from unit.api.bench import Bench

ASK: dict[str, Any] = {"model": "clouds", "messages": [{"role": "user", "content": "hi"}]}
CONTINUE: dict[str, Any] = {"model": "clouds", "prompt": ["hi", "ho"]}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/v1/models", "/nowhere", "/v1/chat/completions"):
        assert (await client.get(path)).headers["x-request-id"].startswith("req_")


async def test_a_sane_request_id_of_the_caller_is_kept(client: httpx.AsyncClient) -> None:
    response = await client.get("/nowhere", headers={"x-request-id": "trace-1.2_3"})
    assert response.headers["x-request-id"] == "trace-1.2_3"


@pytest.mark.parametrize("wanted", ["a b", "a" * 129, "\x1b[31mred", "a;b", ""])
async def test_an_odd_request_id_is_replaced(client: httpx.AsyncClient, wanted: str) -> None:
    response = await client.get("/healthz", headers={"x-request-id": wanted})
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/models", "/console/", "/docs"])
async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(("path", "ask"), [("chat/completions", ASK), ("completions", CONTINUE)])
async def test_the_callers_trace_goes_with_the_request(
    bench: Bench, client: httpx.AsyncClient, path: str, ask: dict[str, Any]
) -> None:
    for headers, carried in (
        ([("traceparent", TRACE)], TRACE),
        ([("traceparent", "nonsense")], "nonsense"),  # the tracer ignores it
        ([("traceparent", TRACE), ("traceparent", TRACE)], None),
        ([], None),
    ):
        response = await client.post(f"/v1/{path}", json=ask, headers=[*client.headers.items(), *headers])
        assert response.status_code == 200
        assert bench.pipeline.requests[-1][1].traceparent == carried


async def test_an_unknown_path_is_told_in_openais_shape(client: httpx.AsyncClient) -> None:
    response = await client.get("/v2/models")
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "message": "there is no GET /v2/models",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }


async def test_an_unknown_method_is_told_with_those_there_are(client: httpx.AsyncClient) -> None:
    response = await client.delete("/v1/models")
    assert response.status_code == 405
    assert "it has GET" in response.json()["error"]["message"]
    assert response.headers["allow"] == "GET"


async def test_a_crash_tells_the_caller_nothing(bench: Bench, client: httpx.AsyncClient) -> None:
    bench.pipeline.script = (ZeroDivisionError("the secret is 42"),)
    with capture_logs() as events:
        response = await client.post("/v1/chat/completions", json=ASK)
    assert response.status_code == 500
    assert "42" not in response.text
    assert response.json()["error"]["code"] == "internal_error"
    assert [event["event"] for event in events] == ["request.crashed"]


# --- keys ---


async def test_no_key_is_401_and_says_how_to_send_one(bench: Bench) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bench.app), base_url="http://pileus") as stranger:
        response = await stranger.get("/v1/models")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["error"]["message"]


async def test_both_headers_may_carry_the_key(bench: Bench) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bench.app), base_url="http://pileus") as plain:
        for headers in (
            {"x-api-key": bench.user},
            {"authorization": f"Bearer {bench.user}"},
            {"authorization": f"bearer  {bench.user}"},
            {"authorization": f"Bearer {bench.user}", "x-api-key": bench.user},
        ):
            assert (await plain.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize("header", ["Basic dTpw", "Bearer", "Bearer ", "sk-pileus-x"])
async def test_another_scheme_is_401(client: httpx.AsyncClient, header: str) -> None:
    assert (await client.get("/v1/models", headers={"authorization": header})).status_code == 401


async def test_a_role_opens_what_it_should_and_no_more(client: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    for path in (
        "/metrics",
        "/admin/v1/status",
        "/admin/v1/series",
        "/admin/v1/events",
        "/admin/v1/live",
        "/admin/v1/keys",
        "/admin/v1/audit",
    ):
        response = await client.get(path)
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "permission_denied"
    for path in (
        "/metrics",
        "/admin/v1/status",
        "/admin/v1/series",
        "/admin/v1/events",
        "/admin/v1/keys",
        "/admin/v1/audit",
    ):
        assert (await admin.get(path)).status_code == 200


async def test_a_refusal_is_in_the_audit_with_key_request_and_reason(bench: Bench, client: httpx.AsyncClient) -> None:
    await client.get("/admin/v1/keys", headers={"x-request-id": "try-1"})
    written = bench.services.audit.flush()
    assert written is not None
    written.result()
    (_, event), *_ = await bench.services.audit.latest(1)
    assert (event.actor, event.request_id, event.outcome) == (bench.user_id, "try-1", "permission_denied")
    assert event.target == "GET /admin/v1/keys"


async def test_errors_are_counted_by_reason(bench: Bench, client: httpx.AsyncClient) -> None:
    await client.get("/nowhere")
    assert bench.services.metrics.errors["not_found"] == 1


# --- the route table ---


def test_a_route_without_a_permission_does_not_start() -> None:
    async def anyone(call: Call) -> Response:
        return Response()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    refuse_unguarded(app)
    app.router.routes.append(GuardedRoute("GET", "/a", anyone, permission=PUBLIC))
    refuse_unguarded(app)
    app.router.routes.append(Route("/b", lambda request: Response()))
    with pytest.raises(TypeError, match="does not declare a permission"):
        refuse_unguarded(app)
    with pytest.raises(TypeError, match="permission"):
        GuardedRoute("GET", "/c", anyone)  # type: ignore[call-arg]


def test_what_is_public_is_on_this_list(bench: Bench) -> None:
    routes = [route for route in bench.app.routes if isinstance(route, GuardedRoute)]
    assert {route.path for route in routes if isinstance(route.permission, Public)} == {
        "/",
        "/console",
        "/console/{name:path}",
        "/docs",
        "/docs/start.js",
        "/docs/{name}",
        "/health",
        "/healthz",
        "/openapi.json",
        "/readyz",
    }


async def test_every_guarded_route_asks_for_a_key(bench: Bench) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bench.app), base_url="http://pileus") as stranger:
        for route in bench.app.routes:
            assert isinstance(route, GuardedRoute)
            if isinstance(route.permission, Permission):
                (method,) = route.methods or {"GET"}
                path = route.path.replace("{model:path}", "clouds").replace("{key_id}", bench.user_id)
                response = await stranger.request(method, path)
                assert response.status_code == 401, path


async def test_an_unknown_query_parameter_is_named(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models?limit=5")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "limit"
