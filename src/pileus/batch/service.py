"""Batches for whoever asks: made, looked at, cancelled. What goes on with them is their jobs'."""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.json import encode
from sqlalchemy import Connection

from pileus.batch.records import KIND, BatchSpec, decode_result, decode_spec
from pileus.batch.view import BatchView, result_files, view
from pileus.config.settings import Batches
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, PermissionDenied
from pileus.core.ids import new_id
from pileus.core.records import Lane, Principal
from pileus.jobs.handler import Kind
from pileus.jobs.service import JobService
from pileus.store.file_table import StoredFile, find_file, insert_file
from pileus.store.job_table import Job
from pileus.store.port import Store

_WINDOW: Final = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PURPOSE: Final = "batch"
_RESULT_PURPOSE: Final = "batch_output"


class BatchWish(Struct, frozen=True, kw_only=True):
    """What somebody asks for."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Mapping[str, str] | None = None
    output_expires_after_s: int | None = None


class BatchService:
    """For one event loop."""

    def __init__(self, jobs: JobService, store: Store, settings: Batches, clock: Clock) -> None:
        self._jobs = jobs
        self._store = store
        self._settings = settings
        self._clock = clock

    async def create(self, principal: Principal, wish: BatchWish) -> BatchView:
        """On record when this returns. Raises `PermissionDenied`, or `InvalidRequest` naming the field."""
        if Lane.BATCH not in principal.lanes:
            raise PermissionDenied("This key may not use the lane batch.", param="lane")
        window_s = checked_window_s(wish.completion_window, self._settings.max_window_s)

        def work(tx: Connection) -> Job:
            now = self._clock.wall()
            file = find_file(tx, principal.tenant, wish.input_file_id, now)
            job = self._draft(principal, wish, _checked_input(file, wish.input_file_id), now + window_s)
            self._jobs.submit_in(tx, job)
            return job

        created = self._view(await self._store.write(work))
        self._jobs.wake(KIND)
        return created

    async def get(self, principal: Principal, batch_id: str) -> BatchView:
        """Raises `NotFound`, also for another tenant's."""
        return self._view(await self._job(principal, batch_id))

    async def list(self, principal: Principal, limit: int, after: str = "") -> tuple[list[BatchView], bool]:
        """The tenant's latest first, from the one behind `after` on, and whether more follow."""
        before = (await self._job(principal, after)).sequence if after else None
        found = await self._jobs.latest(principal.tenant, kind=KIND, before=before, limit=limit + 1)
        return [self._view(job) for job in found[:limit]], len(found) > limit

    async def cancel(self, principal: Principal, batch_id: str) -> BatchView:
        """Have it end, with what is finished by then. Raises `NotFound`, or `NotPossible` where it has ended."""
        await self._job(principal, batch_id)
        return self._view(await self._jobs.cancel(batch_id, principal, principal.tenant))

    def _view(self, job: Job) -> BatchView:
        return view(job, self._clock.wall())

    async def _job(self, principal: Principal, batch_id: str) -> Job:
        job = await self._jobs.get(batch_id, principal.tenant)
        if job.kind != KIND:
            raise NotFound(f"There is no batch {batch_id!r}.")
        return job

    def _draft(self, principal: Principal, wish: BatchWish, file: StoredFile, due_at: float) -> Job:
        spec = BatchSpec(
            input_file_id=file.id,
            blob=file.blob,
            bytes=file.bytes,
            endpoint=wish.endpoint,
            completion_window=wish.completion_window,
            metadata=None if wish.metadata is None else dict(wish.metadata),
            output_expires_after_s=wish.output_expires_after_s,
        )
        return self._jobs.draft(
            KIND,
            principal.tenant,
            principal.key_id,
            encode(spec),
            blobs=(file.blob,),
            due_at=due_at,
            job_id=new_id("batch"),
        )


def batch_kind(settings: Batches) -> Kind:
    """What the owner of jobs must know of batches."""
    return Kind(name=KIND, places=settings.together, closes=True, on_ended=store_results)


def store_results(tx: Connection, job: Job) -> None:
    """Make files of what a batch leaves, in the transaction that ends it."""
    result = decode_result(job.result)
    if result is None:
        return
    assert job.finished_at is not None
    expires_after_s = decode_spec(job.spec).output_expires_after_s
    for file_id, filename, content in result_files(job, result):
        file = StoredFile(
            id=file_id,
            tenant=job.tenant,
            key_id=job.key_id,
            filename=filename,
            purpose=_RESULT_PURPOSE,
            bytes=content.bytes,
            sha256=content.sha256,
            blob=content.blob,
            created_at=job.finished_at,
            expires_at=None if expires_after_s is None else job.finished_at + expires_after_s,
        )
        insert_file(tx, file)


def checked_window_s(text: str, longest_s: float) -> float:
    """A completion window such as `24h` or `90s` in seconds. Raises `InvalidRequest`."""
    found = _WINDOW.fullmatch(text)
    window_s = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < window_s <= longest_s:
        raise InvalidRequest(
            f"`completion_window` should be a time like 24h, 90m or 30s, of at most {longest_s:.0f} s",
            param="completion_window",
        )
    return float(window_s)


def _checked_input(file: StoredFile | None, file_id: str) -> StoredFile:
    if file is None:
        raise InvalidRequest(f"There is no file {file_id!r}.", param="input_file_id")
    if file.purpose != _PURPOSE:
        raise InvalidRequest(
            f"The file {file_id} was stored for the purpose {file.purpose}: a batch's input needs `{_PURPOSE}`.",
            param="input_file_id",
        )
    return file
