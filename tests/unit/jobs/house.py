"""A jobs room with a real store and a real socket, whose worker runs in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from pileus.config.settings import Jobs
from pileus.core.clock import Clock, SystemClock
from pileus.core.errors import Unavailable
from pileus.core.records import Principal
from pileus.jobs.desk import Desk
from pileus.jobs.handler import Context, Handler, Kind, Yielded
from pileus.jobs.service import JobService
from pileus.jobs.worker import JobWorker
from pileus.store.job_table import Job, JobState
from pileus.store.port import Result, Work
from pileus.store.sqlite import SqliteStore

SOMEBODY = Principal("key_1", "acme", "user", frozenset(), max_priority=10)
KIND = "count"


class MoodyStore:
    """A store that is away whenever a test wants that. Meets `Store`, as far as jobs need it."""

    def __init__(self, store: SqliteStore) -> None:
        self.is_away = False
        self.refused = asyncio.Event()  # somebody met it away
        self._store = store

    async def write(self, work: Work[Result]) -> Result:
        self._meet()
        return await self._store.write(work)

    async def read(self, work: Work[Result]) -> Result:
        self._meet()
        return await self._store.read(work)

    def write_blocking(self, work: Work[Result]) -> Result:
        return self._store.write_blocking(work)

    def _meet(self) -> None:
        if self.is_away:
            self.refused.set()
            raise Unavailable("It is away.", retry_after_s=0.05)


class House(Struct, frozen=True):
    """The owner's side."""

    store: SqliteStore
    moods: MoodyStore
    jobs: JobService
    desk: Desk
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "jobs.sock"

    async def until(self, job_id: str, *states: JobState) -> Job:
        """The job once it is in one of these states."""
        async with asyncio.timeout(20):
            async for job in self._looks(job_id):
                if job.state in states:
                    return job
        raise AssertionError("it cannot end")

    async def until_checkpoint(self, job_id: str) -> None:
        async with asyncio.timeout(20):
            async for job in self._looks(job_id):
                if job.checkpoint:
                    return

    async def _looks(self, job_id: str) -> AsyncIterator[Job]:
        while True:
            if not self.moods.is_away:
                yield await self.jobs.get(job_id, None)
            await asyncio.sleep(0.005)

    async def told(self, job_id: str) -> list[str]:
        """The texts of its log."""
        await self.jobs.write_lines()
        await self.store.write(lambda tx: None)  # behind what the owner is just writing
        return [line.text for line in await self.jobs.lines(job_id, None, 100)]

    @asynccontextmanager
    async def worker(self, handler: Handler, kind: str = KIND, beat_s: float = 0.05) -> AsyncIterator[JobWorker]:
        """One more worker; it is lost when the block ends, as if its process had been killed."""
        worker = JobWorker(kind, handler, self.folder / "jobs", beat_s)
        running = asyncio.create_task(worker.run(self.socket))
        try:
            yield worker
        finally:
            worker._channel.close("killed")
            await running


async def until(is_so: Callable[[], bool]) -> None:
    """Return once that is so."""

    async def looks() -> AsyncIterator[bool]:
        while True:
            yield is_so()
            await asyncio.sleep(0.002)

    async with asyncio.timeout(20):
        async for found in looks():
            if found:
                return


@asynccontextmanager
async def open_house(
    folder: Path, *kinds: Kind, lease_s: float = 5.0, clock: Clock | None = None
) -> AsyncIterator[House]:
    store = SqliteStore.open(folder)
    moods = MoodyStore(store)
    clock = clock or SystemClock()
    jobs = JobService(moods, kinds or (Kind(name=KIND, places=4),), Jobs(), folder / "jobs", clock)  # type: ignore[arg-type]
    jobs.open()
    desk = Desk(jobs, lease_s, clock)
    running = asyncio.gather(jobs.run(), desk.run())
    try:
        async with await desk.serve(folder / "jobs.sock"):
            yield House(store, moods, jobs, desk, folder)
            await desk.stop(1.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        store.close()


async def echo(context: Context) -> bytes | Yielded:
    """The simplest handler."""
    return context.job.spec


async def hang(_context: Context) -> bytes | Yielded:
    """One that does nothing, whatever is asked of it."""
    await asyncio.Event().wait()
    raise AssertionError("it waits for ever")
