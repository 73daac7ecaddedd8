"""FAULTS 16: a rolling update under open streams: none fails, and none shows it."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from acceptance.process import Server, running_server
from changing_fleet import Streams, deployment, running, states, text_of, until
from faults.gateway import undisturbed

STREAMS = 200
TOKENS = 300

CONFIG = """
[server]
drain_s = 1.0

[[deployment]]
name = "fake"
model = "fake"
engine = "fake"
replicas = 2
options = { step_s = 0.1, slots = 256 }
"""


@pytest.mark.fault(16, "a fleet of 2, of 1, is replaced under 200 streams", "none fails, all say the same")
@pytest.mark.parametrize(("replicas", "drain_s"), [(2, 20.0), (1, 0.2)], ids=["finish", "resume"])
async def test_none_of_two_hundred_streams_fails_in_a_rolling_restart(
    tmp_path: Path, replicas: int, drain_s: float, measured: Callable[[str], None]
) -> None:
    """They finish where they are while the grace lasts, and then go on elsewhere from what they have said."""
    slow = deployment(replicas=replicas, options={"step_s": 0.01, "slots": 256}, grace_s=drain_s)
    async with running(tmp_path, slow, grace_s=drain_s + 5) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == replicas)
        streams = Streams(fleet)
        open_streams = [asyncio.create_task(text_of(streams.open(TOKENS))) for _ in range(STREAMS)]
        await asyncio.sleep(0)
        assert sum(link.open_requests for link in fleet.directory.ready("fake")) == STREAMS
        await fleet.restart("fake")
        assert len(states(fleet)) == replicas
        texts = await asyncio.gather(*open_streams)
    measured(f"{replicas} replaced, {streams.endings.count('length')} of {STREAMS} whole")
    assert streams.endings == ["length"] * STREAMS
    assert set(texts) == {undisturbed(TOKENS, seed=1)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(tmp_path, "--config", str(config)) as server:
        yield server


class Crowd:
    """People who read streams, on plain connections: two hundred clients of any library would take a core of ours."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reading = 0
        self.all_read = asyncio.Event()

    async def read(self, tokens: int) -> tuple[str, str]:
        """The text, and the last event."""
        parts = urlsplit(self._server.base_url)
        wish = {"model": "fake", "prompt": "x", "seed": 7, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        body = json.dumps(wish).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._server.admin_key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        events: list[str] = []
        while not events or events[-1] != "[DONE]":
            line = await reader.readline()
            assert line, events[-1:]
            if line.startswith(b"data: "):
                events.append(line[6:].strip().decode())
                self._count(len(events))
        writer.close()
        await writer.wait_closed()
        return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]), events[-2]

    def _count(self, events: int) -> None:
        self._reading += events == 1
        if self._reading == STREAMS:
            self.all_read.set()


async def call(server: Server, method: str, path: str) -> Any:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    async with httpx.AsyncClient(base_url=server.base_url, headers=headers, trust_env=False) as http:
        return (await http.request(method, f"/admin/v1/{path}")).raise_for_status().json()


@pytest.mark.fault(16, "`restart` of a real server's 2 replicas under 200 streams over HTTP", "none fails")
async def test_no_client_of_a_real_server_notices_a_rolling_restart(
    server: Server, measured: Callable[[str], None]
) -> None:
    """Old replicas have a second to finish what takes many: so every stream goes on elsewhere, some of them twice."""
    crowd = Crowd(server)
    before = (await call(server, "GET", "deployments/fake"))["replicas"]
    streams = [asyncio.create_task(crowd.read(120)) for _ in range(STREAMS)]
    async with asyncio.timeout(30):
        await crowd.all_read.wait()
    begun_s = time.monotonic()
    await call(server, "POST", "deployments/fake/restart")
    async with asyncio.timeout(60):
        while not (found := await call(server, "GET", "deployments/fake"))["act"]["ended"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # an act is asked for, it does not tell
    took_s = time.monotonic() - begun_s
    still_open = sum(not stream.done() for stream in streams)
    answers = await asyncio.gather(*streams)
    measured(f"a real server: replaced in {took_s:.1f} s, {still_open} streams still open then; {len(answers)} whole")
    assert not found["act"]["error"]
    assert not {replica["id"] for replica in found["replicas"]} & {replica["id"] for replica in before}
    assert len(found["replicas"]) == 2
    assert {text for text, _ in answers} == {undisturbed(120, tuple(b"x"))}
    assert {json.loads(last)["choices"][0]["finish_reason"] for _, last in answers} == {"length"}
