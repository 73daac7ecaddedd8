"""Replicas for tests: one hosted in a thread of the test's own process, and a sink that writes down what it hears."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pileus.core.ports import Engine
from pileus.core.records import ChoiceState, Emission, EngineRequest, Finish, SamplingParams, Started
from pileus.engines.replica.client import ReplicaLink
from pileus.engines.replica.server import Replica
from pileus.testing.fake import FakeEngine
from pileus.testing.options import FakeOptions

EPOCH = 3
REPLICA = "fake/0"
PATIENCE_S = 20.0


class WatchedLink(ReplicaLink):
    """A link that tells when something has come."""

    def __init__(self, replica: str, epoch: int, address: str = "") -> None:
        super().__init__(replica, epoch, address)
        self._news = asyncio.Event()

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds after a frame."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Hosted:
    """An engine behind a socket."""

    def __init__(self, engine: Engine, socket: Path, **settings: Any) -> None:
        self.engine = engine
        self.address = f"unix:{socket}"
        self.replica = Replica(engine, address=self.address, replica=REPLICA, epoch=EPOCH, **settings)
        self.thread = threading.Thread(target=self._run)

    async def link(self) -> WatchedLink:
        async with asyncio.timeout(PATIENCE_S):
            link = await WatchedLink.connect(self.address, replica=REPLICA, epoch=EPOCH)
        assert isinstance(link, WatchedLink)
        return link

    def _run(self) -> None:
        self.replica.start()
        for output in self.engine.events():
            self.replica.deliver(output)
        self.replica.close()


@contextmanager
def hosted(folder: Path, options: dict[str, Any] | None = None, **settings: Any) -> Iterator[Hosted]:
    """A fake engine behind a socket, until the block ends."""
    host = Hosted(FakeEngine(FakeOptions(**(options or {}))), folder / "s.sock", **settings)
    host.thread.start()
    try:
        yield host
    finally:
        host.engine.close()
        host.thread.join(PATIENCE_S)


class RecordingSink:
    """`heard` is all that came, in order; `ended` is done after the last finish or the loss."""

    def __init__(self, choices: int = 1, *, on_emission: Callable[[], None] = lambda: None) -> None:
        self.heard: list[Started | Emission | Finish | str] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = choices
        self._on_emission = on_emission
        self._news = asyncio.Event()

    async def end(self) -> None:
        """Return after the last finish, or the loss."""
        await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE_S)

    @property
    def tokens(self) -> list[int]:
        return [token for item in self.heard if isinstance(item, Emission) for token in item.tokens]

    @property
    def finishes(self) -> list[Finish]:
        return [item for item in self.heard if isinstance(item, Finish)]

    @property
    def losses(self) -> list[str]:
        return [item for item in self.heard if isinstance(item, str)]

    def on_started(self, started: Started) -> None:
        self._hear(started)

    def on_emission(self, emission: Emission) -> None:
        self._hear(emission)
        self._on_emission()

    def on_finish(self, finish: Finish) -> None:
        self._hear(finish)
        self._left -= 1
        if not self._left:
            self.ended.set_result(None)

    def on_lost(self, reason: str) -> None:
        self._hear(reason)
        if not self.ended.done():
            self.ended.set_result(None)

    async def until_tokens(self, count: int) -> None:
        """Return once so many tokens have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.tokens) < count:
                self._news.clear()
                await self._news.wait()

    def _hear(self, item: Started | Emission | Finish | str) -> None:
        self.heard.append(item)
        self._news.set()


def ask(max_tokens: int = 8, *, prompt: tuple[int, ...] = (1, 2, 3), choices: int = 1, seed: int = 7) -> EngineRequest:
    params = SamplingParams(max_tokens=max_tokens, seed=seed)
    return EngineRequest(0, prompt, params, tuple(ChoiceState(index) for index in range(choices)))
