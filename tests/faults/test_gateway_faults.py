"""Several gateway processes: what must be exact over all of them, and what happens when one of them dies."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import APIError, AuthenticationError, OpenAI, RateLimitError

from acceptance.process import Server, greeting, pileus, running_server, started
from faults.test_replica_faults import eventually

GATEWAYS = 3
CONFIG = """
[[deployment]]
name = "slow"
model = "fake"
engine = "fake"
options = { step_s = 0.02, slots = 32 }

[[deployment]]
name = "sleepy"
model = "fake"
engine = "fake"
replicas = 0
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("gateways")
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config), "--gateways", str(GATEWAYS)) as server:
        yield server


def admin(server: Server, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    answer = httpx.request(method, f"{server.base_url}/admin/v1/{path}", headers=headers, json=body, trust_env=False)
    answer.raise_for_status()
    return answer.json()


def make_key(server: Server, **wishes: Any) -> dict[str, Any]:
    key: dict[str, Any] = admin(server, "POST", "keys", {"name": "test", **wishes})
    return key


def client(server: Server, secret: str) -> OpenAI:
    """With a connection of its own, so that a gateway of the kernel's choice takes it."""
    return OpenAI(base_url=f"{server.base_url}/v1", api_key=secret, max_retries=0)


def gateways(server: Server) -> list[int]:
    """Their process ids."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in server.children()}
    return [pid for pid, command in commands.items() if b"gateway" in command]


def replica(server: Server, deployment: str = "slow") -> dict[str, Any]:
    status = admin(server, "GET", "status")
    found: dict[str, Any] = next(d for d in status["deployments"] if d["name"] == deployment)["replicas"][0]
    return found


def is_idle(server: Server) -> bool:
    return (replica(server)["running"], replica(server)["kv_blocks_used"]) == (0, 0)


class Streams:
    """Answers that go on in threads, each over its own connection, and how they ended."""

    def __init__(self, server: Server, secret: str, count: int, tokens: int) -> None:
        self._server, self._secret, self._tokens = server, secret, tokens
        self._begun = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(count)
        self.endings = [self._pool.submit(self._read) for _ in range(count)]
        for _ in range(count):
            assert self._begun.acquire(timeout=30)

    def _read(self) -> str:
        """The text; raises what the client raises."""
        with client(self._server, self._secret) as openai:
            text = ""
            for chunk in openai.completions.create(
                model="slow", prompt="clouds", seed=1, max_tokens=self._tokens, stream=True
            ):
                if not text:
                    self._begun.release()
                text += chunk.choices[0].text
            return text


def test_connections_are_spread_and_each_gateway_answers_the_same(house: Server) -> None:
    assert len(gateways(house)) == GATEWAYS
    answers = set()
    for _ in range(12):
        with client(house, house.admin_key) as openai:
            answers.add(openai.completions.create(model="slow", prompt="a", seed=1, max_tokens=8).choices[0].text)
            assert [model.id for model in openai.models.list()] == ["slow", "sleepy"]
    assert len(answers) == 1


def test_a_budget_is_exact_over_all_gateways(house: Server) -> None:
    """30 requests of 11 tokens at most, for which 100 are enough to run 9, whichever gateway they come through."""
    key = make_key(house, token_budget=100)

    def ask(_: int) -> int:
        with client(house, key["secret"]) as openai:
            try:
                answer = openai.completions.create(
                    model="slow", prompt="a", max_tokens=10, extra_body={"ignore_eos": True}
                )
            except RateLimitError as error:
                return 0 if error.code == "insufficient_quota" else -1000
            assert answer.usage
            return answer.usage.total_tokens

    with ThreadPoolExecutor(30) as pool:
        spent = sum(pool.map(ask, range(30)))
    assert spent == 99
    [shown] = [each for each in admin(house, "GET", "keys")["data"] if each["id"] == key["id"]]
    assert shown["used_tokens"] == 99


def test_a_revoked_key_loses_its_right_at_every_gateway_at_once(house: Server) -> None:
    key = make_key(house)
    streams = Streams(house, key["secret"], 9, tokens=2000)
    admin(house, "DELETE", f"keys/{key['id']}")
    for ending in streams.endings:
        with pytest.raises(APIError, match="revoked"):
            ending.result(timeout=10)
    for _ in range(9):
        with client(house, key["secret"]) as openai, pytest.raises(AuthenticationError):
            openai.completions.create(model="slow", prompt="a", max_tokens=1)
    eventually(lambda: is_idle(house))


def test_who_asks_a_sleeping_deployment_through_any_gateway_is_told_and_served(house: Server) -> None:
    with client(house, house.admin_key) as openai:
        answer = openai.completions.create(model="sleepy", prompt="a", max_tokens=3)
    assert answer.usage
    assert answer.usage.completion_tokens == 3


def test_what_is_deployed_and_undeployed_is_known_at_every_gateway(house: Server) -> None:
    admin(house, "PUT", "deployments/late", {"name": "late", "model": "fake", "engine": "fake", "aliases": ["soon"]})
    eventually(lambda: replica(house, "late")["state"] == "ready")

    def codes() -> set[int]:
        headers = {"authorization": f"Bearer {house.admin_key}"}
        body = {"model": "soon", "prompt": "a", "max_tokens": 1}
        return {
            httpx.post(f"{house.base_url}/v1/completions", headers=headers, json=body, trust_env=False).status_code
            for _ in range(9)
        }

    assert codes() == {200}
    admin(house, "DELETE", "deployments/late")
    eventually(lambda: codes() == {404})


@pytest.mark.fault("13", "SIGKILL of one gateway process of three", "slots and money come back, others go on")
def test_a_killed_gateway_takes_only_its_own_streams_along_and_comes_back(house: Server) -> None:
    """FAULTS 13, for one gateway of several: slots and money of its requests come back."""
    key = make_key(house)
    before = gateways(house)
    streams = Streams(house, key["secret"], 12, tokens=150)
    os.kill(before[0], signal.SIGKILL)
    texts, broken = [], 0
    for ending in streams.endings:
        try:
            texts.append(ending.result(timeout=30))
        except (httpx.RemoteProtocolError, httpx.ReadError, APIError):
            broken += 1
    assert len(set(texts)) <= 1
    eventually(lambda: is_idle(house))
    eventually(lambda: len(gateways(house)) == GATEWAYS)
    assert set(gateways(house)) & set(before) == set(before[1:])
    [shown] = [each for each in admin(house, "GET", "keys")["data"] if each["id"] == key["id"]]
    assert shown["used_tokens"] == len(texts) * 156  # nothing for those that were cut off
    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(lambda _: ask_one(house), range(24)))


def ask_one(server: Server) -> bool:
    with client(server, server.admin_key) as openai:
        return bool(openai.completions.create(model="slow", prompt="a", max_tokens=1).choices)


def test_headers_that_claim_an_address_or_a_name_for_the_request_are_kept_honest(house: Server) -> None:
    """The address is the connection's; the request's name is the caller's, and is told once."""
    headers = {"authorization": "Bearer sk-pileus-wrong", "x-forwarded-for": "10.1.2.3", "x-request-id": "mine"}
    answer = httpx.get(f"{house.base_url}/v1/models", headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert len(answer.headers.get_list("date")) == 1


@pytest.mark.parametrize("target", [b"/healthz?\xff", b"/healthz?a\tb"], ids=["not ascii", "a tab"])
def test_a_url_with_bytes_that_no_url_has_is_a_clear_refusal(house: Server, target: bytes) -> None:
    parts = urlsplit(house.base_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


def test_open_streams_finish_while_the_server_stops(tmp_path: Path) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(tmp_path, "--config", str(config), "--gateways", "2") as server:
        streams = Streams(server, server.admin_key, 8, tokens=100)
        server.process.send_signal(signal.SIGINT)
        texts = {ending.result(timeout=20) for ending in streams.endings}
    assert len(texts) == 1
    assert len(next(iter(texts)).split()) == 100


@pytest.mark.fault("13", "SIGKILL of the scheduling owner", "gateways and replicas end with it")
def test_gateways_and_replicas_end_with_a_killed_owner(tmp_path: Path) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    log = tmp_path / "server.log"
    with (
        log.open("w") as stderr,
        started(tmp_path, "--config", str(config), "--gateways", "2", stderr=stderr) as process,
    ):
        server = Server(process, tmp_path, greeting(process, log))
        children = server.children()
        assert len(children) == 3
        process.kill()
        process.wait()
        eventually(lambda: all(map(is_over, children)), 5.0)


def is_over(pid: int) -> bool:
    """It has ended, be it that nobody has waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_taken_port_is_told_with_several_gateways_too(house: Server, tmp_path: Path) -> None:
    port = house.base_url.rpartition(":")[2]
    done = pileus("serve", "--data", str(tmp_path), "--port", port, "--gateways", "2")
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr


def test_refusals_of_every_gateway_are_in_the_audit(house: Server) -> None:
    with client(house, "sk-pileus-nobody") as openai, pytest.raises(AuthenticationError):
        openai.completions.create(model="slow", prompt="a")

    def recorded() -> bool:
        events = admin(house, "GET", "audit?limit=100")["data"]
        return any("POST /v1/completions" in json.dumps(event) for event in events)

    eventually(recorded)
