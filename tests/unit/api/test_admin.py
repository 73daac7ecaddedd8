"""`/admin/v1` and what a load balancer asks."""

import json
import time
from typing import Any, cast
from unittest import mock

import httpx
import pytest

from pileus.fleet.directory import ServingDirectory
from pileus.fleet.timeline import EventKind, FleetEvent
from pileus.scheduling.fairness import Share
from pileus.scheduling.scaling import Cause
from unit.api.bench import Bench, listening


async def test_me_tells_whose_key_it_is(bench: Bench, client: httpx.AsyncClient) -> None:
    assert (await client.get("/admin/v1/me")).json() == {
        "key_id": bench.user_id,
        "name": "laptop",
        "role": "user",
        "tenant": "default",
        "permissions": ["files.read", "files.write", "fine_tune", "generate", "jobs.read", "jobs.write", "models.read"],
        "lanes": ["on_demand", "batch"],
        "max_priority": 0,
    }


async def test_status_shows_deployments_with_their_replicas(admin: httpx.AsyncClient) -> None:
    status = (await admin.get("/admin/v1/status")).json()
    (deployment,) = status["deployments"]
    (replica,) = deployment["replicas"]
    assert status["version"] == "1.2.3"
    assert status["uptime_s"] >= 0
    assert (deployment["name"], deployment["aliases"], deployment["waiting"]) == ("clouds", ["default"], 0)
    assert replica == {
        "id": "clouds/0",
        "state": "ready",
        "pid": 4711,
        "epoch": 2,
        "restarts": 1,
        "last_error": "",
        "running": 3,
        "waiting": 0,
        "slots": 8,
        "kv_blocks": 100,
        "kv_blocks_used": 40,
        "kv_blocks_cached": 0,
        "tokens_per_s": 123.5,
        "prompt_tokens": 0,
        "generated_tokens": 900,
        "prefix_query_tokens": 0,
        "prefix_hit_tokens": 0,
        "step_ms": 12.5,
        "step_s": 0.0,
        "infer_s": 0.0,
    }


async def test_the_series_begins_where_it_is_asked_to(bench: Bench, admin: httpx.AsyncClient) -> None:
    for second in range(4):
        bench.services.series.sample(1000.0 + second, float(second))
    points = (await admin.get("/admin/v1/series?since=1001.5")).json()["points"]
    assert [point["t"] for point in points] == [1002.0, 1003.0]
    assert (await admin.get("/admin/v1/series?since=yesterday")).status_code == 400


def happened(bench: Bench, t: float, deployment: str, **details: Any) -> None:
    event = FleetEvent(t=t, deployment=deployment, kind=EventKind.SCALED, **details)
    bench.services.timeline.add(event)


async def test_events_are_told_from_a_time_on_and_of_one_deployment(bench: Bench, admin: httpx.AsyncClient) -> None:
    happened(bench, 1000.0, "clouds", before=1, after=2, cause=Cause.HAND, by="boss")
    happened(bench, 1001.0, "rain")
    assert (await admin.get("/admin/v1/events?deployment=clouds")).json()["data"] == [
        {"t": 1000.0, "deployment": "clouds", "kind": "scaled", "by": "boss", "cause": "hand", "before": 1, "after": 2}
    ]
    since = (await admin.get("/admin/v1/events?since=1000")).json()["data"]
    assert [(each["t"], each["deployment"]) for each in since] == [(1001.0, "rain")]
    assert len((await admin.get("/admin/v1/events")).json()["data"]) == 2
    assert (await admin.get("/admin/v1/events?since=soon")).status_code == 400


async def test_whoever_follows_hears_of_each_event_once(bench: Bench) -> None:
    series, now = bench.services.series, time.time()
    for second in range(2):
        series.sample(now + second, float(second))
    happened(bench, now - 60.0, "clouds")
    happened(bench, now, "clouds")
    heard: list[list[float]] = []
    async with (
        listening(bench) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bench.bearer("admin")) as follower,
        follower.stream("GET", "/admin/v1/live") as answer,
    ):
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            heard.append([event["t"] for event in json.loads(line.removeprefix("data: "))["events"]])
            if len(heard) == 2:
                break
            happened(bench, now + 2.0, "clouds")
            series.sample(now + 2.0, 2.0)
    assert heard == [[now - 60.0, now], [now + 2.0]]


async def test_a_key_is_made_shown_once_listed_and_revoked(bench: Bench, admin: httpx.AsyncClient) -> None:
    made = await admin.post("/admin/v1/keys", json={"name": "ci", "role": "user", "token_budget": 1000})
    assert made.status_code == 201
    key = made.json()
    headers = {"authorization": f"Bearer {key['secret']}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(bench.app), base_url="http://pileus", headers=headers
    ) as ci:
        assert (await ci.get("/v1/models")).status_code == 200
        listed = await admin.get("/admin/v1/keys")
        assert key["secret"] not in listed.text
        assert {each["name"] for each in listed.json()["data"]} == {"boss", "laptop", "ci"}
        revoked = await admin.delete(f"/admin/v1/keys/{key['id']}")
        assert revoked.json()["revoked_at"] is not None
        assert (await ci.get("/v1/models")).status_code == 401


async def test_what_is_wrong_with_a_wish_for_a_key_is_named(admin: httpx.AsyncClient) -> None:
    for wish, param in (
        ({}, "name"),
        ({"name": "a", "role": "god"}, "role"),
        ({"name": "a", "token_budget": "5"}, "token_budget"),
        ({"name": "a", "id": "key_mine"}, "id"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"name": "a", "expires_at": 5}, "expires_at"),
        ({"name": "a", "lanes": []}, "lanes"),
        ({"name": "a", "lanes": "batch"}, "lanes"),
        ({"name": "a", "lanes": ["batch", "express"]}, "lanes[1]"),
        ({"name": "a", "max_priority": -1}, "max_priority"),
        ({"name": "a", "max_priority": 1.5}, "max_priority"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "a", "weight": "3"}, "weight"),
        ({"name": "a", "weight": True}, "weight"),
        ({"name": "a", "tokens_per_s": -1}, "tokens_per_s"),
        ({"name": "a", "tokens_per_s": 5}, "tokens_per_s"),
    ):
        response = await admin.post("/admin/v1/keys", json=wish)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


async def test_a_key_is_made_with_its_rights_and_shown_with_them(bench: Bench, admin: httpx.AsyncClient) -> None:
    rights = {"lanes": ["continuous", "on_demand"], "max_priority": 3, "weight": 2, "tokens_per_s": 40}
    made = (await admin.post("/admin/v1/keys", json={"name": "news", "tenant": "news"} | rights)).json()
    listed = (await admin.get("/admin/v1/keys")).json()["data"]
    for key in (made, *[each for each in listed if each["id"] == made["id"]]):
        assert {name: key[name] for name in rights} == rights | {"lanes": ["on_demand", "continuous"]}
    assert bench.services.keys.shares["news"] == Share(weight=2.0, tokens_per_s=40.0)
    plain = next(key for key in listed if key["name"] == "laptop")
    assert [plain[name] for name in rights] == [["on_demand", "batch"], 0, 1.0, 0.0]


async def test_a_key_that_is_not_there_cannot_be_revoked(admin: httpx.AsyncClient) -> None:
    assert (await admin.delete("/admin/v1/keys/key_none")).status_code == 404


async def test_the_audit_tells_acts_newest_first(bench: Bench, admin: httpx.AsyncClient) -> None:
    made = (await admin.post("/admin/v1/keys", json={"name": "ci"})).json()
    await admin.delete(f"/admin/v1/keys/{made['id']}")
    whole = (await admin.get("/admin/v1/audit")).json()["data"]
    revoked, created = whole[:2]
    boss = made["created_by"]
    assert revoked == {
        "at": revoked["at"],
        "actor": boss,
        "tenant": "default",
        "action": "key.revoke",
        "target": made["id"],
        "outcome": "ok",
        "request_id": "",
        "sequence": created["sequence"] + 1,
    }
    assert (created["action"], created["target"]) == ("key.create", made["id"])
    assert (await admin.get("/admin/v1/audit?limit=1")).json()["data"] == [revoked]
    of_one_kind = (await admin.get("/admin/v1/audit?action=key.create")).json()["data"]
    assert of_one_kind == [event for event in whole if event["action"] == "key.create"]
    assert len(of_one_kind) == 3
    assert (await admin.get("/admin/v1/audit?action=nothing")).json() == {"data": []}


@pytest.mark.parametrize("limit", ["0", "1001", "99999999", "-1", "ten", "", "\u0661"])
async def test_a_limit_out_of_bounds_is_refused_by_name(admin: httpx.AsyncClient, limit: str) -> None:
    response = await admin.get("/admin/v1/audit", params={"limit": limit})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "limit"


async def test_readiness_names_the_deployments_that_cannot_serve(bench: Bench, client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["not_ready"] == ["clouds"]
    assert response.headers["retry-after"] == "1"
    assert response.headers["retry-after-ms"] == "1000"
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    add_a_replica(bench.directory)
    for path in ("/readyz", "/health"):
        assert (await client.get(path)).json() == {"status": "ok", "ready": ["clouds"], "not_ready": []}


async def test_metrics_are_prometheus_text(admin: httpx.AsyncClient) -> None:
    response = await admin.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE pileus_time_to_first_token_seconds histogram" in response.text


async def test_models_are_listed_and_shown_by_name_and_alias(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["clouds"]
    assert (await client.get("/v1/models/default")).json() == listed["data"][0]
    assert (await client.get("/v1/models/rain")).status_code == 404


def add_a_replica(directory: ServingDirectory) -> None:
    directory.add("clouds", cast(Any, mock.Mock(on_change=[])))
