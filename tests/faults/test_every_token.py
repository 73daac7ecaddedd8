"""FAULTS 1, 3, 4: a replica that is killed, or hangs, at every single token of an answer. Real processes."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pileus.core.clock import SystemClock
from pileus.core.ports import ReplicaCommand
from pileus.core.records import GenerationOptions, GenerationRequest, SamplingParams
from pileus.engines.replica.client import ReplicaLink
from pileus.fleet.backends.local import LocalStarter
from pileus.gateway.dispatch import Dispatcher
from pileus.gateway.generation import Generation
from pileus.gateway.records import Work
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.routing import Router
from pileus.testing.tokenizer import ByteTokenizer
from unbilled import Unbilled, principal

TOKENS = 64
PATIENCE_S = 20.0


@contextlib.asynccontextmanager
async def process(folder: Path, name: str) -> AsyncIterator[tuple[ReplicaLink, int]]:
    """A fake replica in a process of its own; its link and its process id."""
    starter = LocalStarter(
        (sys.executable, "-m", "fake_worker"), {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    )
    address = f"unix:{folder / name}.sock"
    spec = {"options": {"step_s": 0.002}}
    handle = await starter.start(ReplicaCommand(replica=name, epoch=1, address=address, spec=spec))
    try:
        async with asyncio.timeout(PATIENCE_S):
            link = await ReplicaLink.connect(address, replica=name, epoch=1)
        yield link, handle.pid
        link.close("the test is over")
    finally:
        await handle.stop(0)


class Gateway:
    """One deployment's dispatcher, and one answer at a time."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.endings: list[str] = []

    async def answer(self, first: ReplicaLink, second: ReplicaLink, at: int, harm: signal.Signals, pid: int) -> str:
        """The text of an answer that begins on the first replica, which is harmed after `at` tokens."""
        dispatcher = Dispatcher("d", AdmissionQueue(Bounds(10, 10_000, 60.0, 60.0)), Router(), self.clock)
        dispatcher.on_news({first: True})
        generation = self.generation(dispatcher)
        assert generation.replica is first
        dispatcher.on_news({second: True})
        first.on_change.append(lambda: dispatcher.on_news({first: not first.lost.done()}))
        text, harmed = "", False
        async with asyncio.timeout(PATIENCE_S):
            if at == 0:
                os.kill(pid, harm)
                harmed = True
                self.give_up(first, harm)
            while deltas := await generation.next():
                text += "".join(delta.text for delta in deltas)
                if not harmed and generation.usage.completion_tokens >= at:
                    os.kill(pid, harm)
                    harmed = True
                    self.give_up(first, harm)
        assert generation.usage.completion_tokens == TOKENS
        return text

    def give_up(self, link: ReplicaLink, harm: signal.Signals) -> None:
        """A stopped process keeps its connection: the fleet gives it up, as `fleet.health` decides."""
        if harm is signal.SIGSTOP:
            link.close("it hangs")

    def generation(self, dispatcher: Dispatcher) -> Generation:
        request = GenerationRequest(id="req_1", model="d", options=GenerationOptions(), prompt="x")
        params = SamplingParams(max_tokens=TOKENS, seed=7)
        work = Work(request, principal("t"), "d", (1, 2, 3), params, b"", ())
        scheduler = Unbilled(dispatcher)
        scheduler.endings = self.endings
        generation = Generation(work, ByteTokenizer(), scheduler, self.clock, self.clock.monotonic())
        scheduler.begin(generation, PATIENCE_S)
        return generation


async def answers(folder: Path, indexes: range, harm: signal.Signals) -> None:
    """The same text and one ending, whichever token it is."""
    gateway = Gateway()
    async with process(folder, "survivor") as (survivor, _):
        undisturbed = await gateway.answer(survivor, survivor, TOKENS + 1, harm, 0)
        for at in indexes:
            async with process(folder, f"victim-{at}") as (victim, pid):
                assert await gateway.answer(victim, survivor, at, harm, pid) == undisturbed
                if harm is signal.SIGSTOP:
                    os.kill(pid, signal.SIGCONT)  # it wakes, and finds nobody who listens
        assert gateway.endings == ["length"] * (1 + len(indexes))
        await idle(survivor)


async def idle(link: ReplicaLink) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while link.stats.running or link.stats.kv_blocks_used or link.open_requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # its figures come twice a second


@pytest.mark.fault(1, "SIGKILL at every ninth token of an answer", "an exact seam, one ending")
async def test_an_answer_survives_a_kill_at_some_of_its_tokens(tmp_path: Path) -> None:
    await answers(tmp_path, range(0, TOKENS, 9), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.fault(1, "SIGKILL at each token of an answer", "an exact seam, one ending")
async def test_an_answer_survives_a_kill_at_each_of_its_tokens(tmp_path: Path) -> None:
    await answers(tmp_path, range(TOKENS), signal.SIGKILL)


@pytest.mark.fault("3, 4", "SIGSTOP in mid-stream, then SIGCONT", "resumed elsewhere; what it says then is dropped")
async def test_an_answer_survives_a_replica_that_hangs_and_wakes_again(tmp_path: Path) -> None:
    await answers(tmp_path, range(5, TOKENS, 20), signal.SIGSTOP)
