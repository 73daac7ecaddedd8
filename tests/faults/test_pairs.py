"""Two faults at a time, chosen and timed by a seed that the report prints. PILEUS_FAULT_SEED=N draws others.

The faults are those of FAULTS 1 (kill), 3 (stop), 5 (wrong), 10 (leave) and 12 (slow), on three fake replicas. Whatever
the pair, each request ends once: whole, or with an error and a beginning of the whole; it has one bill, of the tokens
that it was given; and in the end nothing is held.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Coroutine
from itertools import combinations
from pathlib import Path

import pytest

from changing_fleet import deployment, running, until
from faults.gateway import Answer, Gateway, at_rest, undisturbed
from pileus.core.errors import PileusError
from pileus.fleet.controller import Fleet
from pileus.gateway.generation import Generation

SEED = int(os.environ.get("PILEUS_FAULT_SEED", "20261122"))
PAIRS = 5
REQUESTS = 12
TOKENS = 150
STEP_S = 0.005
HATED = 99  # a prompt with this token is refused by the replica that is wrong
DEADLY = frozenset({"kill", "stop"})


class Reader:
    """One request and whoever reads its answer, piece by piece, while `reads` is set."""

    def __init__(self, generation: Generation, whole: str) -> None:
        self.generation, self.whole = generation, whole
        self.answer = Answer(generation.work.request.id)
        self.reads = asyncio.Event()
        self.reads.set()
        self.left = False
        self.done = asyncio.create_task(self._read())

    def leave(self) -> None:
        self.left = True
        self.generation.cancel()

    async def _read(self) -> None:
        try:
            while await self.reads.wait() and (deltas := await self.generation.next()):
                self.answer.text += "".join(delta.text for delta in deltas)
        except PileusError as error:
            self.answer.error = type(error).__name__


class Scene:
    """What a fault finds."""

    def __init__(self, fleet: Fleet, readers: list[Reader], chance: random.Random) -> None:
        self.fleet, self.readers, self.chance = fleet, readers, chance
        self.harmed: set[int] = set()

    def some(self) -> list[Reader]:
        return self.chance.sample(self.readers, 4)

    def send(self, harm: signal.Signals) -> None:
        """To one of the replicas that are ready."""
        ready = [replica.pid for replica in self.fleet.status()[0].replicas if replica.state == "ready"]
        pid = self.chance.choice(ready)
        assert pid
        self.harmed.add(pid)
        os.kill(pid, harm)

    def whole(self) -> bool:
        """Whether every replica is ready, and none of them was harmed."""
        replicas = self.fleet.status()[0].replicas
        return all(replica.state == "ready" and replica.pid not in self.harmed for replica in replicas)

    async def until_said(self, tokens: int) -> None:
        """Return once so many tokens have been read, or nobody reads any more."""
        while sum(reader.generation.usage.completion_tokens for reader in self.readers) < tokens:
            if all(reader.done.done() or not reader.reads.is_set() for reader in self.readers):
                return
            await asyncio.sleep(STEP_S)


async def kill(scene: Scene) -> None:
    scene.send(signal.SIGKILL)


async def stop(scene: Scene) -> None:
    scene.send(signal.SIGSTOP)


async def leave(scene: Scene) -> None:
    for reader in scene.some():
        reader.leave()


async def slow(scene: Scene) -> None:
    """Some read nothing more until all the others are done."""
    slow_ones = scene.some()
    for reader in slow_ones:
        reader.reads.clear()
    await asyncio.wait([reader.done for reader in scene.readers if reader not in slow_ones])
    for reader in slow_ones:
        reader.reads.set()


async def wrong(scene: Scene) -> None:
    """One replica is wrong from the beginning."""


FAULTS: dict[str, Callable[[Scene], Coroutine[None, None, None]]] = {
    "kill": kill,
    "stop": stop,
    "leave": leave,
    "slow": slow,
    "wrong": wrong,
}


async def play(fleet: Fleet, gateway: Gateway, pair: tuple[str, str], chance: random.Random) -> list[Reader]:
    """Requests that two faults befall, to their ends."""
    readers = []
    for seed in range(REQUESTS):
        prompt = (1, HATED if "wrong" in pair else 2, seed)
        readers.append(Reader(await gateway.open(TOKENS, prompt, seed), undisturbed(TOKENS, prompt, seed)))
    scene = Scene(fleet, readers, chance)
    moments = sorted(chance.randrange(REQUESTS * TOKENS * 3 // 4) for _ in pair)
    acts: list[asyncio.Task[None]] = []
    for moment, name in zip(moments, chance.sample(pair, 2), strict=True):
        await scene.until_said(moment)
        acts.append(asyncio.create_task(FAULTS[name](scene)))
    async with asyncio.timeout(20):
        await asyncio.gather(*acts, *(reader.done for reader in readers))
    await until(fleet, scene.whole)
    return readers


@pytest.mark.fault("pairs", f"pairs of kill, stop, leave, slow, wrong; seed {SEED}", "each ends once, is billed once")
@pytest.mark.parametrize(
    "pair", random.Random(SEED).sample(list(combinations(FAULTS, 2)), PAIRS), ids=lambda pair: "-".join(pair)
)
async def test_whatever_two_things_happen_each_request_ends_once(
    tmp_path: Path, pair: tuple[str, str], measured: Callable[[str], None]
) -> None:
    print(f"PILEUS_FAULT_SEED={SEED}")
    bad = {"fake/2": {"faults": [{"kind": "refuse", "prompt_token": HATED}]}}
    spec = deployment(replicas=3, options={"step_s": STEP_S}, options_of=bad)
    async with running(tmp_path, spec, grace_s=1.0) as fleet:
        await until(fleet, lambda: len(fleet.directory.ready("fake")) == 3)
        gateway = Gateway(fleet)
        readers = await play(fleet, gateway, pair, random.Random(f"{SEED} {pair}"))
        await at_rest(fleet, gateway)

    errors = [reader.answer.error for reader in readers if reader.answer.error]
    left = sum(reader.left for reader in readers)
    measured(f"{' and '.join(pair)}: {REQUESTS} requests, {left} left, {len(errors)} ended with an error")
    bills = gateway.ledger.settled
    assert sorted(bills) == sorted(reader.answer.request_id for reader in readers)
    for reader in readers:
        answer, bill = reader.answer, bills[reader.answer.request_id]
        given = reader.generation.usage.completion_tokens
        assert reader.whole.startswith(answer.text)
        assert bill.completion_tokens == given
        assert bill.prompt_tokens == (3 if given else 0)
        if not answer.error and not (reader.left and bill.outcome == "cancelled"):
            assert (answer.text, given) == (reader.whole, TOKENS)
    assert set(errors) <= ({"EngineFailed"} if "wrong" in pair else set()) | (
        {"Quarantined"} if DEADLY.issuperset(pair) else set()
    )
