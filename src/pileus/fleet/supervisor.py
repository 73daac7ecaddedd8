"""Keeps one replica alive: carries out what `lifecycle` decides, on a real process."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import structlog

from pileus.core.clock import Clock
from pileus.core.errors import Unavailable
from pileus.core.ports import ReplicaCommand, ReplicaHandle, ReplicaStarter
from pileus.engines.replica.client import ReplicaLink
from pileus.engines.replica.process import EXIT_REFUSED, read_refusal
from pileus.engines.replica.wire import socket_path
from pileus.fleet import lifecycle
from pileus.fleet.directory import ServingDirectory
from pileus.fleet.health import Signs, hung
from pileus.fleet.lifecycle import Action, Life, Phase, decide
from pileus.fleet.probe import prove
from pileus.fleet.records import Deployment, ReplicaStatus

_WATCH_INTERVAL_S = 0.25
_LAST_BREATH_S = 1.0
_LAST_LINES = 5
_MANY_EPOCHS = 999_999
_LEVELS = {Phase.BACKOFF: logging.WARNING, Phase.CRASH_LOOP: logging.ERROR}

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Supervisor:
    """One replica of one deployment, over all its lives. `run` is the whole story; `end` asks it to come to an end.

    `on_change` hears of each step in its life: the replica, what was before, and what is now. `equip` gives a replica
    what it must have before its first request.
    """

    def __init__(
        self,
        deployment: Deployment,
        number: int,
        *,
        starter: ReplicaStarter,
        directory: ServingDirectory,
        socket_stem: Path,
        clock: Clock,
        start_timeout_s: float,
        on_change: Callable[[str, Life, Life], None],
        equip: Callable[[ReplicaLink], Awaitable[None]],
    ) -> None:
        self.life = Life()
        self.replica = f"{deployment.info.name}/{number}"
        self.start_s: float | None = None  # how long its last start took
        self._deployment = deployment
        self._number = number
        self._starter = starter
        self._directory = directory
        self._socket_stem = socket_stem
        self._clock = clock
        self._start_timeout_s = start_timeout_s
        self._on_change = on_change
        self._equip = equip
        self._unwanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._grace_s = 0.0
        self._link: ReplicaLink | None = None
        self._handle: ReplicaHandle | None = None  # of its present process, or the last one
        self._pid: int | None = None
        socket_path(self._address(_MANY_EPOCHS))  # refuse a long path now, not at a start

    def end(self, grace_s: float) -> None:
        """It shall not run any more; it has `grace_s` seconds to finish what it has begun."""
        self._grace_s = grace_s
        if not self._unwanted.done():
            self._unwanted.set_result(None)

    @property
    def load(self) -> tuple[bool, int, int]:
        """By it, those with which least is lost come first: not ready, few requests, new."""
        requests = self._link.open_requests if self._link else 0
        return self.life.phase is Phase.READY, requests, -self._number

    def tail(self) -> list[str]:
        """The last lines that its process printed."""
        return self._handle.tail().splitlines() if self._handle else []

    def status(self) -> ReplicaStatus:
        life, link = self.life, self._link
        status = ReplicaStatus(
            id=self.replica,
            state=life.phase.value,
            pid=self._pid,
            epoch=life.epoch,
            restarts=life.restarts,
            last_error=life.last_error,
        )
        if link is None:
            return status
        return status.with_figures(link.stats, link.tokens_per_s, link.step_s)

    def _address(self, epoch: int) -> str:
        return f"unix:{self._socket_stem}-{epoch}.sock"

    async def run(self) -> None:
        while True:
            decision = decide(self.life, wanted=not self._unwanted.done(), now=self._clock.monotonic())
            if decision.action is Action.START:
                await self._live()
            elif decision.action is Action.WAIT:
                await asyncio.wait({self._unwanted}, timeout=decision.wait_s)
            else:
                self._become(lifecycle.stopped(self.life, self._clock.monotonic()))
                return

    async def _live(self) -> None:
        """One life, from its start to its end."""
        self._become(lifecycle.started(self.life, self._clock.monotonic()))
        address = self._address(self.life.epoch)
        command = ReplicaCommand(
            replica=self.replica, epoch=self.life.epoch, address=address, spec=self._deployment.spec
        )
        try:
            handle = await self._starter.start(command)
        except OSError as error:
            self._die(f"it cannot be started: {error}")
            return
        self._handle, self._pid = handle, handle.pid
        exited = asyncio.create_task(handle.wait())
        try:
            trouble = await self._serve(exited, address)
            if self._unwanted.done() and not exited.done():
                await self._let_go(handle)
                return
        finally:
            if not exited.done():
                await handle.stop(0)
            status = await exited
            self._pid = self._link = None
        self._bury(status, handle.tail(), trouble)

    async def _serve(self, exited: "asyncio.Task[int]", address: str) -> str:
        """Keep the replica ready until it ends or is not wanted. Returns why it must be given up, if it must."""
        ending = asyncio.create_task(_any(exited, self._unwanted))
        while not ending.done():
            try:
                link = await _until(ending, self._join(address))
            except TimeoutError:
                return f"it was not ready within {self._start_timeout_s:.0f} s"
            except (Unavailable, OSError) as error:
                await asyncio.wait({exited}, timeout=_LAST_BREATH_S)  # a dying process answers no more, and says why
                return "" if exited.done() else str(error)
            if link is None:
                break
            self._link = link
            self._directory.add(self._deployment.info.name, link)
            self._on_proven()
            trouble = await _until(ending, _watch(link))
            self._directory.remove(self._deployment.info.name, link)
            if trouble:
                link.close(trouble)
                return trouble
        return ""

    def _on_proven(self) -> None:
        now = self._clock.monotonic()
        if self.life.phase is Phase.STARTING:
            self.start_s = now - self.life.since_s
        self._become(lifecycle.proven(self.life, now))

    async def _join(self, address: str) -> ReplicaLink:
        async with asyncio.timeout(self._start_timeout_s):
            link = await ReplicaLink.connect(address, replica=self.replica, epoch=self.life.epoch)
            try:
                await prove(link)
                await self._equip(link)
            except BaseException:
                link.close("it was not proven")
                raise
        return link

    async def _let_go(self, handle: ReplicaHandle) -> None:
        """End a replica that is not wanted any more: with grace, where it may be serving somebody."""
        decision = decide(self.life, wanted=False, now=self._clock.monotonic())
        grace_s = self._grace_s if decision.action is Action.DRAIN else 0.0
        if decision.action is Action.DRAIN:
            self._become(lifecycle.draining(self.life, self._clock.monotonic()))
        await handle.stop(grace_s)
        self._become(lifecycle.stopped(self.life, self._clock.monotonic()))

    def _bury(self, status: int, tail: str, trouble: str) -> None:
        """Write down why it died."""
        if status == EXIT_REFUSED and (refusal := read_refusal(tail)):
            self._die(refusal, refused=True)
        elif trouble:
            self._die(f"{trouble}; it was killed", given_up=True)
        elif status < 0:
            self._die(f"it was killed by {signal.Signals(-status).name}")
        else:
            last_lines = "\n".join(tail.splitlines()[-_LAST_LINES:])
            self._die(f"it ended with exit status {status}; its last lines: {last_lines or '(none)'}")

    def _die(self, reason: str, *, refused: bool = False, given_up: bool = False) -> None:
        self._become(lifecycle.died(self.life, self._clock.monotonic(), reason, refused=refused, given_up=given_up))

    def _become(self, life: Life) -> None:
        if life is not self.life:
            before, self.life = self.life, life
            log.log(
                _LEVELS.get(life.phase, logging.INFO),
                "replica_" + life.phase.name.lower(),
                replica=self.replica,
                epoch=life.epoch,
                pid=self._pid,
                last_error=life.last_error,
            )
            self._on_change(self.replica, before, life)


async def _watch(link: ReplicaLink) -> str:
    """Return when the replica must be given up, with the reason; with none when only the connection is gone."""
    while not link.lost.done():
        round_s = monotonic()
        await asyncio.wait({link.lost}, timeout=_WATCH_INTERVAL_S)
        now = monotonic()
        if now - round_s > 2 * _WATCH_INTERVAL_S:  # this loop was late itself, and has not yet heard what came
            continue
        signs = Signs(
            heard_s=link.heard_s,
            stepped_s=link.stepped_s if link.open_requests else now,
            steps_s=tuple(link.steps_s),
            token_s=tuple(link.token_s),
            planned_tokens=link.stats.planned_tokens,
        )
        if trouble := hung(signs, now):
            return trouble
    return ""


async def _any(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _until(ending: "asyncio.Future[Any]", work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns or raises; None when `ending` came first, and `work` was cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
