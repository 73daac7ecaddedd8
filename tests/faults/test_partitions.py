"""FAULTS 7, 8 and 9: what happens on the way between client and gateway, and between gateway and replica.

The wire to a replica is a Unix socket (there is no other yet), where nftables has no say. So a proxy stands in it, and
in front of the server's port: it swallows every byte, resets connections and refuses new ones, or delays. What is not
injected here: lost packets themselves. TCP repeats them, so that its user sees them late and in order, which is how the
proxy shows them; and a handshake that is never answered, since connecting to a Unix socket is not a handshake.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI
from openai.types import Completion

from acceptance.process import running_server
from changing_fleet import deployment, local, running, until
from chaos import Delay, ProxiedStarter, before_port
from faults.gateway import Answer, Gateway, at_rest, read, undisturbed
from pileus.core.ports import ReplicaCommand, ReplicaHandle
from pileus.engines.replica import wire
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.controller import Fleet

STEP_S = 0.01
STREAMS = 8


class Beyond:
    """Meets `ReplicaHandle`: a process that no signal reaches, as on a machine behind a partition. When it is told to
    stop it is taken for dead, and lives on."""

    def __init__(self, handle: ReplicaHandle) -> None:
        self.pid = handle.pid
        self._handle = handle
        self._presumed_dead = asyncio.Event()

    async def wait(self) -> int:
        await self._presumed_dead.wait()
        return -signal.SIGKILL

    async def stop(self, grace_s: float) -> None:
        self._presumed_dead.set()

    def tail(self) -> str:
        return self._handle.tail()


class BeyondStarter:
    """Meets `ReplicaStarter`. `close` ends what nobody could reach."""

    def __init__(self) -> None:
        self.pids: dict[tuple[str, int], int] = {}
        self._handles: list[ReplicaHandle] = []

    async def start(self, command: ReplicaCommand) -> ReplicaHandle:
        handle = await local().start(command)
        self.pids[command.replica, command.epoch] = handle.pid
        self._handles.append(handle)
        return Beyond(handle)

    async def close(self) -> None:
        for handle in self._handles:
            await handle.stop(0)


class House:
    """Two replicas behind proxies, and a gateway."""

    def __init__(self, fleet: Fleet, starter: ProxiedStarter, beyond: BeyondStarter) -> None:
        self.fleet, self.wires, self.beyond = fleet, starter.wires, beyond
        self.gateway = Gateway(fleet)

    def link(self, replica: str) -> ReplicaLink | None:
        return next((link for link in self.fleet.directory.ready("fake") if link.replica == replica), None)

    async def streams(self, tokens: int) -> list[tuple["asyncio.Task[Answer]", Answer, str]]:
        """Some that all have said something, each with the replica that it is on."""
        opened = []
        for _ in range(STREAMS):
            generation = await self.gateway.open(tokens)
            answer = Answer(generation.work.request.id)
            assert generation.replica
            opened.append((asyncio.create_task(read(generation, answer)), answer, generation.replica.replica))
        async with asyncio.timeout(10):
            while not all(answer.text for _, answer, _ in opened):  # noqa: ASYNC110
                await asyncio.sleep(STEP_S)  # they are read by tasks of their own
        return opened


@asynccontextmanager
async def house(folder: Path, delay: Delay | None = None) -> AsyncIterator[House]:
    beyond = BeyondStarter()
    starter = ProxiedStarter(beyond, delay)
    try:
        async with running(
            folder, deployment(replicas=2, options={"step_s": STEP_S}), starter=starter, grace_s=1.0
        ) as fleet:
            await until(fleet, lambda: len(fleet.directory.ready("fake")) == 2)
            yield House(fleet, starter, beyond)
    finally:
        await starter.close()
        await beyond.close()


def billed(gateway: Gateway, answers: list[Answer], tokens: int) -> bool:
    """Each has one bill, of the tokens that it got."""
    bills = [gateway.ledger.settled[answer.request_id].completion_tokens for answer in answers]
    return bills == [tokens] * len(answers) and not gateway.ledger.open


def request_ids(frames: list[bytes]) -> set[int]:
    """Of the requests that these frames have tokens for."""
    decoded = [wire.decode_up(frame[4:]) for frame in frames]
    return {emission.request for frame in decoded if isinstance(frame, wire.Step) for emission in frame.emissions}


@pytest.mark.fault(
    7,
    "every byte between gateway and one of two replicas is swallowed; its process cannot be reached, goes on, and what "
    "it said comes later on its successor's wire",
    "as a hang: ejected within 5 s, streams go on elsewhere, the old epoch's words are dropped; no double effect",
)
async def test_a_partition_that_drops_is_found_like_a_hang_and_its_late_words_change_nothing(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    tokens = 300
    async with house(tmp_path) as at:
        await asyncio.gather(*(at.gateway.ask(60) for _ in range(4)))  # so that it is known how long a step takes
        opened = await at.streams(tokens)
        old = at.wires["fake/0"]
        begun_s = time.monotonic()
        old.cut()
        await until(at.fleet, lambda: at.link("fake/0") is None)
        found_s = time.monotonic() - begun_s
        await until(at.fleet, lambda: at.link("fake/0") is not None)
        successor = at.link("fake/0")
        assert successor
        assert successor.epoch == 2

        fresh = [asyncio.create_task(at.gateway.ask(200)) for _ in range(4 * STREAMS)]
        async with asyncio.timeout(10):
            while successor.open_requests < STREAMS:  # noqa: ASYNC110
                await asyncio.sleep(STEP_S)  # its requests have the numbers from 2 on; 1 proved it ready
        late = [frame for frame in old.swallowed if frame]
        assert request_ids(late) & set(range(2, 2 + STREAMS)), "no late word is about a request that runs now"
        at.wires["fake/0"].say(late)

        answers = [await task for task, _, _ in opened]
        later = [await task for task in fresh]
        await at_rest(at.fleet, at.gateway)
        os.kill(at.beyond.pids["fake/0", 1], 0)  # it has lived on all the while
    moved = [answer for _, answer, replica in opened if replica == "fake/0"]
    measured(
        f"given up after {found_s:.1f} s; {len(moved)} streams went on elsewhere, the longest gap "
        f"{max(answer.longest_gap_s for answer in moved):.1f} s; {len(late)} late frames dropped"
    )
    assert moved
    assert found_s < 5
    assert {(answer.text, answer.error) for answer in answers} == {(undisturbed(tokens), "")}
    assert {(answer.text, answer.error) for answer in later} == {(undisturbed(200), "")}
    assert billed(at.gateway, answers, tokens)
    assert billed(at.gateway, later, 200)


@pytest.mark.fault(
    8,
    "the connection to one of two replicas is reset, and new ones are refused until the streams have ended",
    "failover under 0.2 s",
)
async def test_a_partition_that_rejects_costs_a_fifth_of_a_second(
    tmp_path: Path, measured: Callable[[str], None]
) -> None:
    tokens = 200
    async with house(tmp_path) as at:
        opened = await at.streams(tokens)
        at.wires["fake/0"].reject()
        await until(at.fleet, lambda: at.link("fake/0") is None)
        during = await at.gateway.ask(20)
        answers = [await task for task, _, _ in opened]
        assert at.link("fake/0") is None
        await at.wires["fake/0"].restore()
        await until(at.fleet, lambda: at.link("fake/0") is not None)
        assert [replica.restarts for replica in at.fleet.status()[0].replicas] == [0, 0]
        await at_rest(at.fleet, at.gateway)
    gap_s = {on: max(answer.longest_gap_s for _, answer, replica in opened if replica == on) for on in at.wires}
    measured(f"longest gap {gap_s['fake/0'] * 1e3:.0f} ms where it was cut, {gap_s['fake/1'] * 1e3:.0f} ms elsewhere")
    assert gap_s["fake/0"] < 0.2
    assert (during.text, during.error) == (undisturbed(20), "")
    assert {(answer.text, answer.error) for answer in answers} == {(undisturbed(tokens), "")}
    assert billed(at.gateway, answers, tokens)


WIRE = Delay(0.2, 0.05, 0.3, seed=9)


@pytest.mark.fault(
    9,
    "200 ms (+-50) each way between gateway and replicas; 30% of the pieces come late by TCP's 200 ms and more",
    "correct, slower, no lost ending",
)
async def test_a_bad_line_to_the_replicas_is_slower_and_right(tmp_path: Path, measured: Callable[[str], None]) -> None:
    tokens = 60
    async with house(tmp_path, WIRE) as at:
        asked = [asyncio.create_task(at.gateway.ask(tokens)) for _ in range(STREAMS)]
        leaver = await at.gateway.open(tokens)
        await leaver.next()
        leaver.cancel()
        answers = await asyncio.gather(*asked)
        await at_rest(at.fleet, at.gateway)
        assert [replica.restarts for replica in at.fleet.status()[0].replicas] == [0, 0]
    first_s = min(answer.heard_s[0] - answer.began_s for answer in answers)
    measured(f"to a replica: first text after {first_s:.2f} s at the soonest, {len(answers)} right answers")
    assert first_s > 0.25
    assert {(answer.text, answer.error) for answer in answers} == {(undisturbed(tokens), "")}
    assert at.gateway.ledger.settled.pop(leaver.work.request.id).outcome == "cancelled"
    assert billed(at.gateway, answers, tokens)


@pytest.mark.fault(
    9,
    "200 ms (+-50) each way between client and gateway; 30% of the pieces come late by TCP's 200 ms and more",
    "correct, slower, no lost ending",
)
async def test_a_bad_line_to_the_clients_is_slower_and_right(tmp_path: Path, measured: Callable[[str], None]) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text('[[deployment]]\nname = "fake"\nmodel = "fake"\nengine = "fake"\noptions = { step_s = 0.01 }\n')

    async def ask(client: AsyncOpenAI, stream: bool) -> tuple[str, str | None, float]:
        begun_s = time.monotonic()
        answer = await client.completions.create(
            model="fake", prompt="clouds", seed=7, max_tokens=60, extra_body={"ignore_eos": True}, stream=stream
        )
        chunks = [answer] if isinstance(answer, Completion) else [chunk async for chunk in answer]
        choices = [chunk.choices[0] for chunk in chunks]
        return "".join(choice.text for choice in choices), choices[-1].finish_reason, time.monotonic() - begun_s

    with running_server(tmp_path, "--config", str(config)) as server:
        port = urlsplit(server.base_url).port or 0
        async with before_port(port, WIRE) as far:

            def client(port: int) -> AsyncOpenAI:
                url = f"http://127.0.0.1:{port}/v1"
                return AsyncOpenAI(base_url=url, api_key=server.admin_key, max_retries=0, timeout=30)

            async with client(port) as near:
                asked = [await ask(near, stream=False) for _ in range(3)]
            async with client(far) as distant:
                found = await asyncio.gather(*(ask(distant, stream=number % 2 == 0) for number in range(10)))
    usual_s, soonest_s = (min(took_s for _, _, took_s in answers) for answers in (asked, found))
    measured(f"to a client: {usual_s:.2f} s near, {soonest_s:.2f} s at the soonest, {len(found)} right answers")
    assert soonest_s > usual_s + 0.3
    assert len({(text, finish) for text, finish, _ in asked + found}) == 1
