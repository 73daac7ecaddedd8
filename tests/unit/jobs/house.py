"""A jobs room with a real store and a real socket, whose worker runs in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from pileus.config.settings import Jobs
from pileus.core.clock import SystemClock
from pileus.core.records import Principal
from pileus.jobs.desk import Desk
from pileus.jobs.handler import Context, Handler, Kind, Yielded
from pileus.jobs.service import JobService
from pileus.jobs.worker import JobWorker
from pileus.store.job_table import Job, JobState
from pileus.store.sqlite import SqliteStore

SOMEBODY = Principal("key_1", "acme", "user", frozenset(), max_priority=10)
KIND = "count"


class House(Struct, frozen=True):
    """The owner's side."""

    store: SqliteStore
    jobs: JobService
    desk: Desk
    folder: Path

    async def until(self, job_id: str, *states: JobState) -> Job:
        """The job once it is in one of these states."""
        async with asyncio.timeout(10):
            async for job in self._looks(job_id):
                if job.state in states:
                    return job
        raise AssertionError("it cannot end")

    async def _looks(self, job_id: str) -> AsyncIterator[Job]:
        while True:
            yield await self.jobs.get(job_id, None)
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def worker(self, handler: Handler, kind: str = KIND, beat_s: float = 0.05) -> AsyncIterator[JobWorker]:
        """One more worker; it is lost when the block ends, as if its process had been killed."""
        worker = JobWorker(kind, handler, self.folder / "jobs", beat_s)
        running = asyncio.create_task(worker.run(self.folder / "jobs.sock"))
        try:
            yield worker
        finally:
            worker._channel.close("killed")
            await running


@asynccontextmanager
async def open_house(folder: Path, *kinds: Kind, lease_s: float = 5.0) -> AsyncIterator[House]:
    store = SqliteStore.open(folder)
    clock = SystemClock()
    jobs = JobService(store, kinds or (Kind(name=KIND, places=4),), Jobs(), folder / "jobs", clock)
    jobs.open()
    desk = Desk(jobs, lease_s, clock)
    running = asyncio.gather(jobs.run(), desk.run())
    try:
        async with await desk.serve(folder / "jobs.sock"):
            yield House(store, jobs, desk, folder)
            await desk.stop(1.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()


async def echo(context: Context) -> bytes | Yielded:
    """The simplest handler."""
    return context.job.spec
