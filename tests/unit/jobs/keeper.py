"""A service of jobs over a real store, without workers."""

from pathlib import Path

from pileus.config.settings import Jobs
from pileus.jobs.handler import Kind
from pileus.jobs.service import JobService
from pileus.store.job_table import Job
from pileus.store.sqlite import SqliteStore
from pileus.testing.clock import ManualClock
from unit.jobs.house import KIND, MoodyStore


class Keeper:
    """A service whose clock a test moves, and whose ticks it makes."""

    def __init__(self, folder: Path, *kinds: Kind) -> None:
        self.store = SqliteStore.open(folder)
        self.moods = MoodyStore(self.store)
        self.clock = ManualClock()
        self.folder = folder / "jobs"
        self.kinds = kinds or (Kind(name=KIND),)
        self.jobs = self.service()

    def service(self) -> JobService:
        """One more owner of the same jobs."""
        jobs = JobService(self.moods, self.kinds, Jobs(), self.folder, self.clock)  # type: ignore[arg-type]
        jobs.open()
        return jobs

    async def finish(self, kind: str = KIND) -> Job:
        """Lease one, and end it."""
        [job] = await self.jobs.lease(kind, 1)
        await self.jobs.finish(job.id, job.fence, b"{}")
        return job
