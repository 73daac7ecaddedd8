"""FAULTS 1, 2, 10 and 11: replicas that die under load, and clients that leave. Real processes, the official client."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import OpenAI

from acceptance.process import Server, running_server

TOKENS = 60
STEP_S = 0.01

# "pair" is two replicas of the fake engine; "narrow" has one slot, so that a second request waits.
CONFIG = f"""
[[deployment]]
name = "pair"
model = "fake"
engine = "fake"
replicas = 2
options = {{ step_s = {STEP_S}, prefill_s_per_token = 0.005, slots = 32 }}

[[deployment]]
name = "narrow"
model = "fake"
engine = "fake"
options = {{ step_s = {STEP_S}, slots = 1 }}
"""


@pytest.fixture(scope="module", params=[1, 3], ids=["one gateway", "three gateways"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("faults")
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config), "--gateways", str(request.param)) as server:
        yield server


def replicas(server: Server, deployment: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    status = httpx.get(f"{server.base_url}/admin/v1/status", headers=headers, trust_env=False).json()
    return next(d["replicas"] for d in status["deployments"] if d["name"] == deployment)


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Ask until it is so: what happens in other processes gives no event to wait for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def stream(server: Server, seed: int, on_text: Callable[[], None] = lambda: None) -> tuple[str, int]:
    """The whole text of one streamed answer, and the tokens it was billed."""
    with OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as client:
        text, billed = "", 0
        for chunk in client.completions.create(
            model="pair",
            prompt="clouds",
            seed=seed,
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        ):
            if chunk.choices:
                text += chunk.choices[0].text
                on_text()
            if chunk.usage:
                billed = chunk.usage.completion_tokens
        return text, billed


def kill_one(server: Server) -> dict[str, Any]:
    """kill -9 the replica that runs most."""
    victim = max(replicas(server, "pair"), key=lambda replica: replica["running"])
    os.kill(victim["pid"], signal.SIGKILL)
    return victim


def both_are_back(server: Server) -> bool:
    return [replica["state"] for replica in replicas(server, "pair")] == ["ready", "ready"]


@pytest.mark.fault("1, 2", "SIGKILL under 24 streams", "an exact seam, one bill")
@pytest.mark.parametrize("moment", ["prefill", "decode"])
def test_streams_survive_a_killed_replica_with_an_exact_seam_and_one_bill(house: Server, moment: str) -> None:
    eventually(lambda: both_are_back(house))
    undisturbed = {seed: stream(house, seed)[0] for seed in range(3)}
    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(stream, house, seed % 3) for seed in range(24)]
        least = 0 if moment == "prefill" else 24 * 5
        before = sum(replica["generated_tokens"] for replica in replicas(house, "pair"))
        eventually(
            lambda: (
                sum(replica["running"] for replica in replicas(house, "pair")) > 8
                and sum(replica["generated_tokens"] for replica in replicas(house, "pair")) - before >= least
            )
        )
        victim = kill_one(house)
        answers = [future.result() for future in running]
    assert answers == [(undisturbed[seed % 3], TOKENS) for seed in range(24)]
    eventually(lambda: both_are_back(house))
    assert {r["id"]: r["epoch"] for r in replicas(house, "pair")}[victim["id"]] == victim["epoch"] + 1


def send(server: Server, **wishes: Any) -> socket.socket:
    """A request on a bare socket, which the test can drop."""
    parts = urlsplit(server.base_url)
    body = json.dumps({"model": "narrow", "prompt": "clouds", "max_tokens": 4000, **wishes}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {server.admin_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(head.encode() + body)
    return connection


def waiting(server: Server) -> int:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    status = httpx.get(f"{server.base_url}/admin/v1/status", headers=headers, trust_env=False).json()
    return next(d["waiting"] for d in status["deployments"] if d["name"] == "narrow")


def is_idle(server: Server) -> bool:
    [replica] = replicas(server, "narrow")
    return (replica["running"], replica["waiting"], replica["kv_blocks_used"]) == (0, 0, 0)


@pytest.mark.fault(10, "client closes", "slot and blocks free after a step")
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_frees_its_slot_and_blocks(house: Server, streamed: bool) -> None:
    connection = send(house, stream=streamed)
    eventually(lambda: replicas(house, "narrow")[0]["running"] == 1)
    connection.close()
    # One engine step; the figures themselves are told at once, and read over HTTP.
    eventually(lambda: is_idle(house), within_s=2.0)


@pytest.mark.fault(11, "client closes while queued", "the queue entry goes")
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_the_queue_takes_its_place_along(house: Server, streamed: bool) -> None:
    runs = send(house, stream=True)
    eventually(lambda: replicas(house, "narrow")[0]["running"] == 1)
    queued = send(house, stream=streamed)
    eventually(lambda: waiting(house) == 1)
    queued.close()
    eventually(lambda: waiting(house) == 0, within_s=2.0)
    assert replicas(house, "narrow")[0]["running"] == 1
    runs.close()
    eventually(lambda: is_idle(house), within_s=2.0)
