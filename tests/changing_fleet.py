"""A fleet of fake replicas that tests change while it serves, and streams that go through its queue."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pileus.core.clock import SystemClock
from pileus.core.ports import ReplicaStarter
from pileus.core.records import GenerationOptions, GenerationRequest, SamplingParams
from pileus.fleet.backends.local import LocalStarter
from pileus.fleet.controller import Fleet
from pileus.fleet.records import Deployment, DeploymentInfo
from pileus.gateway.dispatch import Dispatched, Dispatcher
from pileus.gateway.generation import Generation
from pileus.gateway.records import Work
from pileus.scheduling.admission import AdmissionQueue
from pileus.scheduling.bounds import Bounds
from pileus.scheduling.routing import Router
from pileus.scheduling.scaling import Policy
from pileus.testing.tokenizer import ByteTokenizer
from replicas import PATIENCE_S
from unbilled import Unbilled, principal

TESTS = Path(__file__).parent
SLEEPY = Policy(min_replicas=0, max_replicas=4)


def deployment(name: str = "fake", replicas: int = 1, policy: Policy | None = None, **spec: Any) -> Deployment:
    info = DeploymentInfo(name=name, model="fake", engine="fake")
    return Deployment(info=info, spec=spec, replicas=replicas, policy=policy)


def local() -> LocalStarter:
    """Starts workers around the fake engine on this machine."""
    path = os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))
    return LocalStarter((sys.executable, "-m", "fake_worker"), {**os.environ, "PYTHONPATH": path})


@asynccontextmanager
async def running(
    folder: Path, *deployments: Deployment, grace_s: float = PATIENCE_S, starter: ReplicaStarter | None = None
) -> AsyncIterator[Fleet]:
    """Real processes around the fake engine; every deployment has its first replica when the block begins."""
    fleet = Fleet(deployments, starter or local(), run_dir=folder / "run", clock=SystemClock(), grace_s=grace_s)
    fleet.start()
    try:
        for each in deployments:
            await fleet.wait_ready(each.info.name, PATIENCE_S)
        yield fleet
    finally:
        await fleet.drain_and_stop(PATIENCE_S)


async def until(fleet: Fleet, condition: Callable[[], object], deployment: str = "fake") -> None:
    """Return once the condition holds after the fleet told of a change."""
    news = asyncio.Event()
    fleet.directory.subscribe(deployment, lambda _: news.set())
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            news.clear()
            await news.wait()


def states(fleet: Fleet) -> list[tuple[str, str]]:
    return [(replica.id, replica.state) for replica in fleet.status()[0].replicas]


class Streams:
    """Requests to one deployment, as the gateway sees them through, and how each ended."""

    def __init__(self, fleet: Fleet, name: str = "fake", *, max_wait_s: float = PATIENCE_S) -> None:
        queue: AdmissionQueue[Dispatched] = AdmissionQueue(Bounds(1000, 10**7, max_wait_s, PATIENCE_S))
        self._fleet, self._name = fleet, name
        self.dispatcher = Dispatcher(
            name, queue, Router(), SystemClock(), starting_s=lambda: fleet.directory.starting_s(name)
        )
        self._scheduler = Unbilled(self.dispatcher)
        self.endings = self._scheduler.endings
        fleet.directory.subscribe(name, self.dispatcher.on_news)

    def open(self, tokens: int) -> Generation:
        """All of them ask for the same, so all say the same."""
        request = GenerationRequest(
            id="req_1", model=self._name, options=GenerationOptions(ignore_eos=True), prompt="x"
        )
        params = SamplingParams(max_tokens=tokens, seed=1)
        work = Work(request, principal("tenant"), self._name, (1, 2, 3), params, b"", ())
        clock = SystemClock()
        generation = Generation(work, ByteTokenizer(), self._scheduler, clock, clock.monotonic())
        self._fleet.directory.wake(self._name)
        self._scheduler.begin(generation, 600)
        return generation


async def text_of(generation: Generation) -> str:
    """The whole answer. Raises the failure."""
    text = ""
    while deltas := await generation.next():
        text += "".join(delta.text for delta in deltas)
    return text
