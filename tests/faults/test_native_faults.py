"""FAULTS 1, 2, 10 and 11 on the native engine and the default model, byte for byte, with the official client.

Who asks has a key and a tenant of its own, so that each answer has its own bill and no prompt is found in a cache.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types import CompletionUsage

from acceptance.process import Server, running_server

TOKENS = 100
MINUTES = 4000  # tokens
SHORT = "Rain falls on the hills, and"
LONG = "Clouds drift over the hills while rain falls on the sea. " * 100  # seconds of prefill
BESIDE = "Once upon a time, in a village by the sea,"

CONFIG = """
[[deployment]]
name = "pair"
model = "smollm2-135m-instruct"
replicas = 2
options = { deterministic = true, threads = 1, max_sequences = 2, kv_bytes = 268_435_456 }
"""


class Answer(NamedTuple):
    """What a client got, and what its key was billed."""

    text: str
    usage: CompletionUsage | None
    billed_tokens: int


class House:
    """The server, as clients and its operator see it."""

    def __init__(self, server: Server) -> None:
        self.base_url = server.base_url
        self._operator = {"authorization": f"Bearer {server.admin_key}"}

    async def ask(self, prompt: str, on_piece: Callable[[int], object] = lambda count: None) -> Answer:
        """One streamed answer; `on_piece` hears how many pieces of it have come."""
        client, key = await self.client()
        pieces, usage = [], None
        async with client:
            async for chunk in await completion(client, prompt, TOKENS, stream=True):
                usage = chunk.usage
                if chunk.choices and chunk.choices[0].text:
                    pieces.append(chunk.choices[0].text)
                    on_piece(len(pieces))
        keys = await self._call("GET", "keys")
        return Answer("".join(pieces), usage, next(k["used_tokens"] for k in keys["data"] if k["id"] == key))

    async def begin(self, prompt: str, *, stream: bool, n: int = 1) -> "asyncio.Task[None]":
        """An answer that takes minutes; to cancel it is to leave."""
        client, _ = await self.client()

        async def listen() -> None:
            async with client:
                answer = await completion(client, prompt, MINUTES, stream=stream, n=n)
                if stream:
                    async for _ in answer:
                        pass

        return asyncio.create_task(listen())

    async def client(self) -> tuple[AsyncOpenAI, str]:
        """A client of a new tenant, and its key's id."""
        key = await self._call("POST", "keys", {"name": "client", "tenant": f"tenant-{time.monotonic_ns()}"})
        return AsyncOpenAI(base_url=f"{self.base_url}/v1", api_key=key["secret"], max_retries=0), key["id"]

    async def deployment(self) -> dict[str, Any]:
        pair: dict[str, Any]
        [pair] = (await self._call("GET", "status"))["deployments"]
        return pair

    async def replicas(self) -> list[dict[str, Any]]:
        return list((await self.deployment())["replicas"])

    def kill_the_one_at_work(self) -> str:
        """kill -9 the replica that runs something, as soon as its figures tell; its id. Nothing else happens here
        meanwhile."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            status = httpx.get(f"{self.base_url}/admin/v1/status", headers=self._operator, trust_env=False).json()
            for replica in status["deployments"][0]["replicas"]:
                if replica["running"]:
                    os.kill(replica["pid"], signal.SIGKILL)
                    return str(replica["id"])
        raise AssertionError("no replica is at work")

    async def is_running(self, requests: int) -> bool:
        return sum(int(replica["running"]) for replica in await self.replicas()) == requests

    async def is_waiting(self, requests: int) -> bool:
        return int((await self.deployment())["waiting"]) == requests

    async def at_rest(self) -> bool:
        """Both replicas are ready, and no request holds a place, a slot or a KV block."""
        pair = await self.deployment()
        ready = [r["state"] for r in pair["replicas"]] == ["ready", "ready"]
        held = [r[figure] for r in pair["replicas"] for figure in ("running", "waiting", "kv_blocks_used")]
        return ready and not any([pair["waiting"], *held])

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        async with httpx.AsyncClient(trust_env=False, headers=self._operator, timeout=30) as http:
            answer = await http.request(method, f"{self.base_url}/admin/v1/{path}", json=body)
            return answer.raise_for_status().json()


def completion(client: AsyncOpenAI, prompt: str, tokens: int, *, stream: bool, n: int = 1) -> Awaitable[Any]:
    return client.completions.create(
        model="pair",
        prompt=prompt,
        seed=7,
        max_tokens=tokens,
        n=n,
        stream=stream,
        stream_options={"include_usage": True} if stream else None,
        extra_body={"ignore_eos": True},
    )


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    """Ask until it is so: what happens in other processes gives no event to wait for."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def house(smollm2_path: Path, test_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data = tmp_path_factory.mktemp("native-faults")
    (data / "models").symlink_to(test_models_dir)
    config = data / "pileus.toml"
    config.write_text(CONFIG)
    with running_server(data, "--config", str(config)) as server:
        yield House(server)


@pytest.fixture(scope="module")
def undisturbed(house: House) -> dict[str, Answer]:
    """What each prompt is answered while nothing breaks."""

    async def answers() -> dict[str, Answer]:
        return {prompt: await house.ask(prompt) for prompt in (SHORT, LONG, BESIDE)}

    found = asyncio.run(answers())
    for answer in found.values():
        assert answer.usage is not None
        assert answer.usage.completion_tokens == TOKENS
        assert answer.billed_tokens == answer.usage.total_tokens
    return found


@pytest.mark.fault("1, 2", "SIGKILL, native engine", "resumed byte for byte, one bill")
@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        pytest.param(LONG, 0, id="in prefill"),
        *(pytest.param(SHORT, said, id=f"at {said}") for said in (1, 5, 20)),
        *(pytest.param(SHORT, said, id=f"at {said}", marks=pytest.mark.slow) for said in (2, 3, 10, 15, 30, 60, 90)),
    ],
)
async def test_a_stream_outlives_its_killed_replica_byte_for_byte_and_with_one_bill(
    house: House, undisturbed: dict[str, Answer], prompt: str, said: int
) -> None:
    await eventually(house.at_rest)
    before = await house.replicas()
    heard: list[int] = []
    killed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_piece(count: int) -> None:
        heard.append(count)
        if count == said:
            killed.set_result(house.kill_the_one_at_work())

    stream = asyncio.create_task(house.ask(prompt, on_piece))
    if not said:
        await eventually(lambda: house.is_running(1))
        killed.set_result(house.kill_the_one_at_work())
        assert not heard
    victim = await killed
    beside = await house.ask(BESIDE)  # the other serves on
    assert (await stream, beside) == (undisturbed[prompt], undisturbed[BESIDE])

    await eventually(house.at_rest)
    after = await house.replicas()
    lives = {now["id"]: now["epoch"] - then["epoch"] for now, then in zip(after, before, strict=True)}
    assert lives == {replica["id"]: int(replica["id"] == victim) for replica in before}
    [survivor] = [number for number, replica in enumerate(before) if replica["id"] != victim]
    resumed = after[survivor]["generated_tokens"] - before[survivor]["generated_tokens"] - TOKENS
    assert 0 < resumed <= TOKENS - said


@pytest.mark.fault(10, "client closes, native engine", "slot and blocks free after a step")
@pytest.mark.parametrize(
    ("prompt", "streamed"), [(SHORT, True), (SHORT, False), (LONG, True)], ids=["streamed", "whole", "in prefill"]
)
async def test_a_client_that_leaves_frees_its_slot_and_blocks(house: House, prompt: str, streamed: bool) -> None:
    await eventually(house.at_rest)
    leaves = await house.begin(prompt, stream=streamed)
    await eventually(lambda: house.is_running(1))
    assert sum(replica["kv_blocks_used"] for replica in await house.replicas()) > 0
    leaves.cancel()
    # One engine step; the figures themselves are told at once, and read over HTTP.
    await eventually(house.at_rest, within_s=3.0)


@pytest.mark.fault(11, "client closes while queued, native engine", "the queue entry goes")
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_a_client_that_leaves_the_queue_takes_its_place_along(house: House, streamed: bool) -> None:
    await eventually(house.at_rest)
    running = [await house.begin(SHORT, stream=True, n=2) for _ in range(2)]
    await eventually(lambda: house.is_running(4))
    queued = await house.begin(SHORT, stream=streamed)
    await eventually(lambda: house.is_waiting(1))
    queued.cancel()
    await eventually(lambda: house.is_waiting(0), within_s=3.0)
    assert await house.is_running(4)
    for each in running:
        each.cancel()
    await eventually(house.at_rest, within_s=3.0)
