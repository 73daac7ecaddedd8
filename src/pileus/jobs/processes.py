"""Worker processes, started for kinds that have work, and again when they end before it is done."""

import asyncio
import contextlib
from typing import Protocol

from pileus.jobs.desk import Desk
from pileus.jobs.service import JobService
from pileus.observability.events import get_log
from pileus.store.job_table import JobState, JobTable
from pileus.store.port import Store

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0
_STEADY_S = 10.0  # who ran so long did not fail at its start

log = get_log(__name__)


class WorkerHandle(Protocol):
    """A worker process."""

    pid: int

    async def wait(self) -> int:
        """The exit status; negative for a signal."""
        ...

    def kill(self) -> None: ...


class WorkerStarter(Protocol):
    """Starts worker processes."""

    async def start(self, kind: str) -> WorkerHandle: ...


class WorkerProcesses:
    """One for each kind that has work. For one event loop."""

    def __init__(self, jobs: JobService, desk: Desk, store: Store, starter: WorkerStarter) -> None:
        self._desk = desk
        self._store = store
        self._starter = starter
        self._table = JobTable()
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._handles: dict[int, WorkerHandle] = {}
        self._stopping = asyncio.Event()
        jobs.on_queued.append(self._look)
        desk.on_silent.append(self._kill)

    async def stop(self, grace_s: float) -> None:
        """Let each give back what it has, and make it end after that long."""
        self._stopping.set()
        await self._desk.stop(grace_s)
        for pid in tuple(self._handles):
            self._kill(pid)
        if self._keeping:
            await asyncio.wait(self._keeping.values())

    def _look(self, kind: str) -> None:
        """Keep a worker for that kind, if it has work."""
        if kind not in self._keeping and not self._stopping.is_set():
            task = self._keeping[kind] = asyncio.create_task(self._keep(kind))
            task.add_done_callback(lambda _: self._keeping.pop(kind, None))

    async def _keep(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set() and await self._has_work(kind):
            began = loop.time()
            try:
                status: int | str = await self._live(kind)
            except OSError as error:  # no process is to be had at present
                status = error.strerror or str(error)
            if status == 0 or self._stopping.is_set():
                continue
            log.error("job_worker_ended", kind=kind, status=status)
            wait_s = _FIRST_WAIT_S if loop.time() - began > _STEADY_S else min(2 * wait_s, _LONGEST_WAIT_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _has_work(self, kind: str) -> bool:
        states = (JobState.QUEUED, JobState.RUNNING)
        return await self._store.read(lambda tx: self._table.count(tx, kind, states)) > 0

    async def _live(self, kind: str) -> int:
        """One life of a worker process; its exit status."""
        handle = await self._starter.start(kind)
        self._handles[handle.pid] = handle
        log.info("job_worker_started", kind=kind, pid=handle.pid)
        try:
            if self._stopping.is_set():  # it was asked for while this one began
                handle.kill()
            return await handle.wait()
        finally:
            del self._handles[handle.pid]

    def _kill(self, pid: int) -> None:
        if pid in self._handles:
            self._handles[pid].kill()
