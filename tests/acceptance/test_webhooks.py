"""What happened here is told to a real receiver, and checked there as OpenAI's client checks it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types.webhooks import BatchCancelledWebhookEvent, BatchCompletedWebhookEvent, BatchFailedWebhookEvent

from acceptance.background import CHAT, ended, http, mortal_server, question, until
from acceptance.process import Server, pileus, running_server
from acceptance.receiver import Received, Receiver, receiving

CONFIG = """
[webhooks]
allow_private = true

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
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("hooked") / "pileus.toml"
    config.write_text(CONFIG)
    return config


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    with running_server(config.parent, "--config", str(config)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with http(server) as client:
        yield client


@pytest.fixture
def receiver(client: httpx.Client) -> Iterator[Receiver]:
    """One that nobody tells any more when the test is over."""
    with receiving() as receiver:
        yield receiver
        for each in client.get("/v1/webhooks").json()["data"]:
            client.delete(f"/v1/webhooks/{each['id']}").raise_for_status()


def added(client: httpx.Client, receiver: Receiver, **wishes: Any) -> str:
    """The secret."""
    told = client.post("/v1/webhooks", json={"url": receiver.url, **wishes}).raise_for_status().json()
    return str(told["secret"])


def unwrapped(received: Received, secret: str) -> Any:
    """As the official client reads it; it raises for a signature that is not right."""
    client = OpenAI(api_key="none", base_url="http://nowhere.invalid")
    return client.webhooks.unwrap(received.body, received.headers, secret=secret)


def test_an_end_is_told_until_it_is_heard(client: httpx.Client, receiver: Receiver) -> None:
    receiver.script.extend([500, 307, 404])
    secret = added(client, receiver)
    asked = client.post(CHAT, json=question(background=True)).json()["id"]
    received = receiver.wait_for(4)
    assert [each.status for each in received] == [500, 307, 404, 200]
    assert {each.path for each in received} == {"/hook"}  # the redirect was not followed
    events = [unwrapped(each, secret) for each in received]
    assert {(event.id, event.type, event.data.id) for event in events} == {
        (events[0].id, "background.completed", asked)
    }
    assert {each.headers["webhook-id"] for each in received} == {events[0].id}
    assert {each.headers["content-type"] for each in received} == {"application/json"}
    times = [int(each.headers["webhook-timestamp"]) for each in received]
    assert times == sorted(set(times))  # each try is signed anew
    assert ended(client, asked)["status"] == "completed"


def test_a_failure_and_a_cancellation_are_told_too(client: httpx.Client, receiver: Receiver) -> None:
    secret = added(client, receiver, events=["background.failed", "background.cancelled"])
    client.post(CHAT, json=question(background=True))  # its end is not wanted
    failing = client.post(CHAT, json=question("word " * 50_000, background=True)).json()["id"]
    receiver.wait_for(1)
    cancelled = client.post(CHAT, json=question(model="slow", max_tokens=4000, background=True)).json()["id"]
    until(client, cancelled, "in_progress")
    client.post(f"/v1/background/{cancelled}/cancel").raise_for_status()
    events = [unwrapped(each, secret) for each in receiver.wait_for(2)]
    assert [(event.type, event.data.id) for event in events] == [
        ("background.failed", failing),
        ("background.cancelled", cancelled),
    ]


def test_a_batchs_end_is_the_event_that_openais_client_knows(
    server: Server, client: httpx.Client, receiver: Receiver
) -> None:
    secret = added(client, receiver)
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": question()}
    slow = {**line, "body": question(model="slow", max_tokens=4000)}
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as official:

        def begun(*lines: dict[str, Any]) -> str:
            content = "\n".join(map(json.dumps, lines)).encode()
            stored = official.files.create(file=("lines.jsonl", content), purpose="batch")
            made = official.batches.create(input_file_id=stored.id, endpoint=CHAT, completion_window="24h")
            return made.id

        ids = [begun(line)]
        receiver.wait_for(1)
        ids.append(begun({"custom_id": "a"}))
        receiver.wait_for(2)
        ids.append(begun(slow))
        official.batches.cancel(ids[-1])
    events = [unwrapped(each, secret) for each in receiver.wait_for(3)]
    assert [type(event) for event in events] == [
        BatchCompletedWebhookEvent,
        BatchFailedWebhookEvent,
        BatchCancelledWebhookEvent,
    ]
    assert [event.data.id for event in events] == ids


def test_the_command_adds_tests_lists_and_removes(server: Server, receiver: Receiver) -> None:
    def run(*arguments: str) -> Any:
        return pileus("webhooks", *arguments, PILEUS_URL=server.base_url, PILEUS_API_KEY=server.admin_key)

    secret = run("add", receiver.url, "--event", "batch.completed").stdout.strip()
    [hook] = json.loads(run("list", "--json").stdout)
    assert (hook["url"], hook["events"]) == (receiver.url, ["batch.completed"])
    tested = run("test", hook["id"])
    assert tested.returncode == 0
    assert tested.stdout.startswith("127.0.0.1 answered 200 after ")
    assert unwrapped(receiver.wait_for(1)[0], secret).type == "webhook.test"
    receiver.script.append(410)
    failed = run("test", hook["id"])
    assert failed.returncode == 1
    assert "answered 410" in failed.stderr
    assert run("remove", hook["id"], "--yes").returncode == 0
    assert json.loads(run("list", "--json").stdout) == []


def test_another_tenants_ends_are_not_told(server: Server, client: httpx.Client, receiver: Receiver) -> None:
    secret = added(client, receiver, tenant="other")
    made = client.post("/admin/v1/keys", json={"name": "other", "tenant": "other"}).json()
    own = client.post(CHAT, json=question(background=True)).json()["id"]
    ended(client, own)
    with http(server, made["secret"]) as other:
        theirs = other.post(CHAT, json=question(background=True)).json()["id"]
    [received] = receiver.wait_for(1)
    assert unwrapped(received, secret).data.id == theirs


def test_what_was_not_heard_is_told_by_the_next_server(tmp_path: Path) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    with receiving(*[503] * 3) as receiver:
        with mortal_server(config) as first, http(first) as client:
            secret = added(client, receiver)
            asked = client.post(CHAT, json=question(background=True)).json()["id"]
            receiver.wait_for(2)
        with running_server(tmp_path, "--config", str(config)):
            received = receiver.wait_for(4)
    events = [unwrapped(each, secret) for each in received]
    assert {(event.id, event.data.id) for event in events} == {(events[0].id, asked)}
    assert received[-1].status == 200
