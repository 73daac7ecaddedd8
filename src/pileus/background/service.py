"""Background requests, as people see them: the jobs of this kind, and nothing of other kinds."""

from typing import Final

from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace

from pileus.background.records import INLINE_BYTES, KIND, BackgroundSpec, decode_spec
from pileus.config.settings import Background
from pileus.core.clock import Clock
from pileus.core.errors import NotFound, RateLimited
from pileus.core.ids import new_id
from pileus.core.records import Principal
from pileus.jobs.service import JobService
from pileus.store.blobs import Blobs
from pileus.store.job_table import Job

_RETRY_S: Final = 10.0  # until one of very many may have an answer


class BackgroundService:
    """For one event loop."""

    def __init__(self, jobs: JobService, blobs: Blobs, settings: Background, clock: Clock) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._settings = settings
        self._clock = clock

    async def submit(self, principal: Principal, spec: BackgroundSpec, body: bytes, deadline_s: float | None) -> Job:
        """On record, with its body, when this returns. Raises `RateLimited` where too many of the tenant's wait
        already."""
        most = self._settings.max_waiting
        if await self._jobs.count_open(KIND, principal.tenant) >= most:
            raise RateLimited(f"{most} requests of this tenant wait in the background already.", retry_after_s=_RETRY_S)
        job_id = new_id("bg")
        spec = await self._with_body(spec, body, job_id)
        return await self._jobs.submit(
            KIND,
            principal,
            encode(spec),
            blobs=[spec.blob] if spec.blob else [],
            priority=spec.priority,
            due_at=self._clock.wall() + (deadline_s or self._settings.max_s),
            job_id=job_id,
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
        """The latest first without their answers, from the first after that one on, and whether there are more.
        Raises `NotFound`."""
        before = None if after is None else (await self.get(after, tenant)).sequence
        jobs = await self._jobs.latest(tenant, kind=KIND, before=before, limit=limit + 1, results=False)
        return jobs[:limit], len(jobs) > limit

    async def cancel(self, job_id: str, by: Principal) -> Job:
        """Raises `NotFound`, or `NotPossible` where it has ended."""
        return await self._jobs.cancel((await self.get(job_id, by.tenant)).id, by, by.tenant)

    async def forget(self, job_id: str, by: Principal) -> None:
        """With its answer. Raises `NotFound`, or `NotPossible` where it has not ended."""
        job = await self.get(job_id, by.tenant)
        await self._jobs.forget(job.id, by, by.tenant)
        if blob := decode_spec(job.spec).blob:
            await self._blobs.delete(blob)

    async def _with_body(self, spec: BackgroundSpec, body: bytes, job_id: str) -> BackgroundSpec:
        if len(body) <= INLINE_BYTES:
            return replace(spec, body=Raw(body))
        draft = await self._blobs.create(f"background/{job_id}")
        try:
            await draft.write(body)
            return replace(spec, blob=(await draft.commit()).key)
        finally:
            await draft.abort()


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no background request {job_id!r}.")
