"""The jobs of a server: their owner, the desk where workers come for them, and the workers' processes."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pileus.bootstrap.job_workers import LocalWorkers
from pileus.core.clock import SystemClock
from pileus.core.errors import Unavailable

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.jobs.handler import Kind
    from pileus.store.port import Store

log = structlog.get_logger(__name__)

JOBS_FOLDER = "jobs"  # in the data folder
JOBS_SOCKET, SCHEDULING_SOCKET = "jobs.sock", "scheduling.sock"  # in the folder for sockets


class JobsPart:
    """What bootstrap runs of the room `jobs`."""

    def __init__(self, settings: "Settings", store: "Store", kinds: "Iterable[Kind]", sockets: Path) -> None:
        from pileus.jobs.desk import Desk
        from pileus.jobs.processes import WorkerProcesses
        from pileus.jobs.service import JobService

        clock = SystemClock()
        folder = settings.data_dir.resolve() / JOBS_FOLDER
        self.service = JobService(store, kinds, settings.jobs, folder, clock)
        self._grace_s = settings.server.drain_s
        self._socket = sockets / JOBS_SOCKET
        self._desk = Desk(self.service, settings.jobs.lease_s, clock)
        starter = LocalWorkers(settings, self._socket, sockets / SCHEDULING_SOCKET, folder)
        self._processes = WorkerProcesses(self.service, self._desk, starter)

    async def serve(self) -> asyncio.Server:
        """Let workers come."""
        await asyncio.to_thread(self.service.open)
        return await self._desk.serve(self._socket)

    async def stop(self, *, at_once: bool) -> None:
        """Have each worker give back what it has, within the drain, or not."""
        await self._processes.stop(0.0 if at_once else self._grace_s)
        try:
            await self.service.write_lines()
        except Unavailable as error:
            log.error("job_lines_lost", reason=error.message)

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self.service.run(), self._desk.run())
