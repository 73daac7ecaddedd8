"""Background requests, as people see them: the jobs of this kind, and nothing of other kinds."""

from typing import Final

from msgspec.json import encode

from pileus.background.records import KIND, BackgroundSpec
from pileus.config.settings import Background
from pileus.core.clock import Clock
from pileus.core.errors import NotFound, RateLimited
from pileus.core.ids import new_id
from pileus.core.records import Principal
from pileus.jobs.service import JobService
from pileus.store.job_table import Job

_RETRY_S: Final = 10.0  # until one of very many may have an answer


class BackgroundService:
    """For one event loop."""

    def __init__(self, jobs: JobService, settings: Background, clock: Clock) -> None:
        self._jobs = jobs
        self._settings = settings
        self._clock = clock

    async def submit(self, principal: Principal, spec: BackgroundSpec, deadline_s: float | None) -> Job:
        """On record when this returns. Raises `RateLimited` where too many of the tenant's wait already."""
        most = self._settings.max_waiting
        if await self._jobs.count_open(KIND, principal.tenant) >= most:
            raise RateLimited(f"{most} requests of this tenant wait in the background already.", retry_after_s=_RETRY_S)
        due_at = self._clock.wall() + (deadline_s or self._settings.max_s)
        return await self._jobs.submit(
            KIND, principal, encode(spec), priority=spec.priority, due_at=due_at, job_id=new_id("bg")
        )

    async def get(self, job_id: str, tenant: str) -> Job:
        """Raises `NotFound`, also for another tenant's and for other jobs."""
        try:
            job = await self._jobs.get(job_id, tenant)
        except NotFound:
            raise _not_found(job_id) from None
        if job.kind != KIND:
            raise _not_found(job_id)
        return job

    async def latest(self, tenant: str, after: str | None, limit: int) -> tuple[list[Job], bool]:
        """The latest first, from the first after that one on, and whether there are more. Raises `NotFound`."""
        before = None if after is None else (await self.get(after, tenant)).sequence
        jobs = await self._jobs.latest(tenant, kind=KIND, before=before, limit=limit + 1)
        return jobs[:limit], len(jobs) > limit

    async def cancel(self, job_id: str, by: Principal) -> Job:
        """Raises `NotFound`, or `NotPossible` where it has ended."""
        return await self._jobs.cancel((await self.get(job_id, by.tenant)).id, by, by.tenant)

    async def forget(self, job_id: str, by: Principal) -> None:
        """With its answer. Raises `NotFound`, or `NotPossible` where it has not ended."""
        await self._jobs.forget((await self.get(job_id, by.tenant)).id, by, by.tenant)


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no background request {job_id!r}.")
