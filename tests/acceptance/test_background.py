"""Requests that are answered while nobody waits: against real processes, some of which are killed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.background import CHAT, ended, http, mortal_server, question, said, until
from acceptance.process import Server, running_server

CONFIG = """
[[deployment]]
name = "fake"
model = "fake"
engine = "fake"

[[deployment]]
name = "slow"
model = "fake"
engine = "fake"
options = { step_s = 0.05 }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two further gateway processes and an owner: what holds here holds in one process too."""
    data = tmp_path_factory.mktemp("background")
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config), "--gateways", "2") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with http(server) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, question()),
        (CHAT, question(n=3, logprobs=True, top_logprobs=2)),
        ("/v1/completions", {"model": "fake", "prompt": ["one", "two"], "seed": 3, "max_tokens": 5}),
    ],
    ids=["chat", "chat with choices", "completions"],
)
def test_it_is_answered_as_the_plain_call_is(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    client.post(path, json=body).raise_for_status()  # then both find the same prefix in the cache
    plain = client.post(path, json=body).raise_for_status().json()
    promised = client.post(path, json=body | {"background": True})
    assert promised.status_code == 202
    told = promised.json()
    assert promised.headers["location"] == f"/v1/background/{told['id']}"
    assert (told["object"], told["status"], told["error"]) == ("background.request", "queued", None)
    found = ended(client, told["id"])
    assert found["status"] == "completed"
    assert found["completed_at"] >= found["created_at"]
    assert said(found["response"]) == said(plain)
    assert found["response"].keys() == plain.keys()


def test_the_usage_is_booked_under_the_name_of_the_request(client: httpx.Client) -> None:
    asked = client.post(CHAT, json=question(), headers={"prefer": "respond-async", "x-request-id": "req_mine"})
    found = ended(client, asked.json()["id"])
    assert found["request_id"] == "req_mine"
    usage = found["response"]["usage"]
    [row] = _booked(client, "req_mine")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])


def _booked(client: httpx.Client, request_id: str) -> list[dict[str, Any]]:
    """Usage is written once a second."""
    latest = time.monotonic() + 10
    while time.monotonic() < latest:
        rows = client.get("/admin/v1/usage").raise_for_status().json()["data"]
        if found := [row for row in rows if row["request_id"] == request_id]:
            return found
        time.sleep(0.05)
    raise AssertionError("no usage")


def test_a_preference_is_taken_among_others_and_said_to_be(client: httpx.Client) -> None:
    headers = [("prefer", "handling=lenient, respond-async; foo=bar"), ("prefer", "wait=10")]
    answer = client.post(CHAT, json=question(), headers=headers)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    other = client.post(CHAT, json=question(), headers={"prefer": "wait=10"})
    assert other.status_code == 200
    assert "preference-applied" not in other.headers


def test_what_cannot_be_done_is_said_before_anything_is_promised(server: Server, client: httpx.Client) -> None:
    made = client.post("/admin/v1/keys", json={"name": "plain", "lanes": ["on_demand"]}).json()

    def refused(key: str, headers: dict[str, str], **wishes: Any) -> tuple[int, str | None]:
        with http(server, key) as other:
            answer = other.post(CHAT, json=question(background=True, **wishes), headers=headers)
        return answer.status_code, answer.json()["error"]["param"]

    assert refused(server.admin_key, {}, stream=True) == (400, "stream")
    assert refused(server.admin_key, {}, model="nobody")[0] == 404
    assert refused(server.admin_key, {}, temperature=9) == (400, "temperature")
    assert refused(server.admin_key, {}, n=100) == (400, "n")
    assert refused(made["secret"], {}, service_tier="flex") == (403, "service_tier")
    assert refused(made["secret"], {"x-pileus-priority": "5"})[0] == 403


def test_what_only_the_model_can_tell_is_the_error_that_the_plain_call_gives(client: httpx.Client) -> None:
    body = question("word " * 50_000)
    plain = client.post(CHAT, json=body)
    assert plain.status_code == 400
    found = ended(client, client.post(CHAT, json=body | {"background": True}).json()["id"])
    assert (found["status"], found["response"]) == ("failed", None)
    assert found["error"] == plain.json()["error"]


def test_a_deadline_ends_it(client: httpx.Client) -> None:
    body = question(model="slow", max_tokens=4000, background=True)
    asked = client.post(CHAT, json=body, headers={"x-pileus-deadline-ms": "1500"})
    found = ended(client, asked.json()["id"])
    assert found["status"] == "failed"
    assert found["error"]["code"] == "deadline_exceeded"


def test_cancelling_ends_it_and_only_what_has_ended_is_deleted(client: httpx.Client) -> None:
    asked = client.post(CHAT, json=question(model="slow", max_tokens=4000, background=True)).json()
    one = f"/v1/background/{asked['id']}"
    until(client, asked["id"], "in_progress")
    assert client.delete(one).json()["error"]["code"] == "job_state"
    assert client.post(f"{one}/cancel").is_success
    assert ended(client, asked["id"])["status"] == "cancelled"
    assert client.post(f"{one}/cancel").json()["error"]["code"] == "job_state"
    assert client.delete(one).json() == {"id": asked["id"], "object": "background.request", "deleted": True}
    assert client.get(one).status_code == 404


def test_another_tenant_sees_nothing_of_it(server: Server, client: httpx.Client) -> None:
    asked = client.post(CHAT, json=question(background=True)).json()
    made = client.post("/admin/v1/keys", json={"name": "other", "tenant": "other", "role": "admin"}).json()
    with http(server, made["secret"]) as other:
        one = f"/v1/background/{asked['id']}"
        answers = [other.get(one), other.delete(one), other.post(f"{one}/cancel")]
        assert [each.status_code for each in answers] == [404, 404, 404]
        assert other.get("/v1/background").json()["data"] == []
        assert other.get("/v1/background", params={"after": asked["id"]}).status_code == 404


def test_lists_go_from_the_latest_backwards_page_by_page(client: httpx.Client) -> None:
    asked = [client.post(CHAT, json=question(background=True)).json()["id"] for _ in range(3)]
    page = client.get("/v1/background", params={"limit": 2}).json()
    assert [each["id"] for each in page["data"]] == [asked[2], asked[1]] == [page["first_id"], page["last_id"]]
    assert page["has_more"]
    assert "response" not in page["data"][0]
    further = client.get("/v1/background", params={"limit": 1, "after": page["last_id"]}).json()
    assert [each["id"] for each in further["data"]] == [asked[0]]


def test_a_key_that_is_revoked_meanwhile_pays_for_nothing_more(server: Server, client: httpx.Client) -> None:
    made = client.post("/admin/v1/keys", json={"name": "leaver"}).json()
    with http(server, made["secret"]) as leaver:
        body = question(model="slow", max_tokens=4000, background=True)
        asked = [leaver.post(CHAT, json=body).json()["id"] for _ in range(2)]
        for each in asked:
            until(leaver, each, "in_progress")
    client.delete(f"/admin/v1/keys/{made['id']}")
    found = [ended(client, each) for each in asked]
    assert [each["error"]["type"] for each in found] == ["authentication_error"] * 2


def test_it_survives_its_worker_its_replica_and_the_server(tmp_path: Path) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    body = question(model="slow", max_tokens=60)
    with mortal_server(config) as first, http(first) as client:
        plain = client.post(CHAT, json=body).raise_for_status().json()
        asked = client.post(CHAT, json=body | {"background": True}).json()["id"]
        until(client, asked, "in_progress")
        killed = [child for child in first.children() if _is(child, "job-worker") or _is(child, "worker")]
        assert len(killed) == 3
        for child in killed:
            os.kill(child, signal.SIGKILL)
        assert client.get(f"/v1/background/{asked}").json()["status"] in ("queued", "in_progress")
    with running_server(tmp_path, "--config", str(config)) as second, http(second, first.admin_key) as client:
        found = ended(client, asked)
        assert found["status"] == "completed"
        assert said(found["response"])[:2] == said(plain)[:2]
        counts = [found["response"]["usage"][name] for name in ("prompt_tokens", "completion_tokens")]
        assert counts == [plain["usage"][name] for name in ("prompt_tokens", "completion_tokens")]


def _is(pid: int, command: str) -> bool:
    try:
        return command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
