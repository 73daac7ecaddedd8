"""Worker processes, started for kinds that have work, and again when they end before it is done."""

import asyncio
import contextlib
from typing import Protocol

from pileus.core.errors import Unavailable
from pileus.jobs.desk import Desk
from pileus.jobs.service import JobService
from pileus.observability.events import get_log

START_S = 120.0  # who takes no jobs by then is ended
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

    async def start(self, kind: str) -> WorkerHandle:
        """Raises `OSError` where no process is to be had."""
        ...


class WorkerProcesses:
    """One for each kind that has work. For one event loop."""

    def __init__(self, jobs: JobService, desk: Desk, starter: WorkerStarter) -> None:
        self._jobs = jobs
        self._desk = desk
        self._starter = starter
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._waits: dict[str, float] = {}  # before the next start of a kind whose last ones ended early
        self._handles: dict[int, WorkerHandle] = {}
        self._ready: set[int] = set()
        self._useful: set[int] = set()  # who got a job further: their end is no reason to wait for long
        self._stopping = asyncio.Event()
        jobs.on_queued.append(self._look)
        desk.on_ready.append(self._ready.add)
        desk.on_further.append(self._useful.add)
        desk.on_lost.append(self._kill)

    async def stop(self, grace_s: float) -> None:
        """Let each give back what it has, and make it end after that long."""
        self._stopping.set()
        await self._desk.stop(grace_s)
        for pid in tuple(self._handles):
            self._kill(pid)
        if self._keeping:
            await asyncio.wait(self._keeping.values())

    def _look(self, kind: str) -> None:
        """That kind has work: it needs a worker."""
        if kind not in self._keeping and not self._stopping.is_set():
            task = self._keeping[kind] = asyncio.create_task(self._keep(kind))
            task.add_done_callback(lambda _: self._keeping.pop(kind, None))

    async def _keep(self, kind: str) -> None:
        """One life of a worker, and the wait before the next, which begins with the next look."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        trouble = await self._live(kind)
        if self._stopping.is_set():
            return
        if trouble:
            with contextlib.suppress(Unavailable):  # the next start that fails tells again
                await self._jobs.not_begun(kind, trouble)
        if loop.time() - began > _STEADY_S:
            self._waits.pop(kind, None)
        wait_s = self._waits.get(kind, _FIRST_WAIT_S)
        self._waits[kind] = min(2 * wait_s, _LONGEST_WAIT_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _live(self, kind: str) -> str:
        """One life of a worker process; says why, where it ended without having taken jobs."""
        try:
            handle = await self._starter.start(kind)
        except OSError as error:
            log.error("job_worker_not_started", kind=kind, reason=str(error))
            return f"no worker process can be started: {error.strerror or error}"
        pid = handle.pid
        self._handles[pid] = handle
        log.info("job_worker_started", kind=kind, pid=pid)
        timer = asyncio.get_running_loop().call_later(START_S, self._kill_unless_ready, pid)
        if self._stopping.is_set():  # it was asked for while this one began
            handle.kill()
        try:
            status = await handle.wait()
            if status and not self._stopping.is_set():
                log.error("job_worker_ended", kind=kind, pid=pid, status=status)
            is_lame = pid not in self._ready
            if pid in self._useful:
                self._waits.pop(kind, None)
        finally:
            timer.cancel()
            del self._handles[pid]
            self._ready.discard(pid)
            self._useful.discard(pid)
        return (
            f"its worker process ended before it took jobs, with status {status}; the log says why" if is_lame else ""
        )

    def _kill_unless_ready(self, pid: int) -> None:
        if pid not in self._ready:
            self._kill(pid)

    def _kill(self, pid: int) -> None:
        if pid in self._handles:
            self._handles[pid].kill()
