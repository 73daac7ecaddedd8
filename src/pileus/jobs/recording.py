"""How what becomes of a job is put on record, with all that follows from it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, Unavailable
from pileus.core.records import AuditEvent, Principal
from pileus.jobs import machine
from pileus.jobs.handler import Kind
from pileus.jobs.machine import LeaseLost
from pileus.observability.events import get_log
from pileus.store.job_table import Job, JobState, JobTable
from pileus.store.port import Store
from pileus.store.tables import AuditTable

log = get_log(__name__)

Change = Callable[[Job], Job]


class Recorder:
    """Each change of a job is one transaction. For one event loop."""

    def __init__(self, store: Store, kinds: Mapping[str, Kind], clock: Clock) -> None:
        self.on_changed: list[Callable[[Job, Job], None]] = []  # called with a job as it was and as it is on record
        self.on_ended: list[Callable[[Connection, Job], None]] = []  # see `JobService.on_ended`
        self._store = store
        self._kinds = kinds
        self._clock = clock
        self._table, self._audit = JobTable(), AuditTable()

    async def act(
        self,
        action: str,
        job_id: str,
        by: Principal,
        tenant: str | None,
        change: Callable[[Connection, Job], Job],
    ) -> Job:
        """What somebody does to a job, on record in the audit. Raises `NotFound`, also for another tenant's."""
        event = self._event(action, job_id, by)

        def work(tx: Connection) -> tuple[Job, Job]:
            job = self._find(tx, job_id, tenant)
            self._audit.insert(tx, [event])
            return job, self._put(tx, job, change(tx, job))

        return self._spread(*await self._store.write(work))

    async def forget(self, job_id: str, by: Principal, tenant: str | None) -> None:
        """Delete a job that has ended, on record in the audit. Raises `NotFound`, or `NotPossible` before its end
        and while another needs it."""
        event = self._event("job.forget", job_id, by)

        def work(tx: Connection) -> None:
            job = self._find(tx, job_id, tenant)
            if not job.ended:
                raise machine.NotPossible(f"The job {job_id} cannot be deleted: it is {job.state}. Cancel it first.")
            if needing := self._table.needing(tx, job_id):
                raise machine.NotPossible(f"The job {job_id} cannot be deleted: the job {needing[0].id} needs it.")
            self._audit.insert(tx, [event])
            self._table.forget(tx, [job_id])

        await self._store.write(work)

    async def change(self, job_id: str, change: Change) -> Job:
        """What becomes of a job. Raises `LeaseLost` where it is forgotten."""

        def work(tx: Connection) -> tuple[Job, Job]:
            job = self._table.get(tx, job_id)
            if job is None:
                raise LeaseLost
            return job, self._put(tx, job, change(job))

        return self._spread(*await self._store.write(work))

    async def change_each(self, ids: Sequence[str], change: Change) -> None:
        """Each by itself: where one's end cannot be put on record, the others' can. Raises `Unavailable`."""

        async def change_one(job_id: str) -> None:
            try:
                await self.change(job_id, change)
            except Unavailable:
                raise
            except Exception as error:  # a kind's own account of a job's end went wrong
                log.error("job_not_ended", job=job_id, exc_info=error)

        await asyncio.gather(*map(change_one, ids))

    def needs_met(self, tx: Connection, job: Job) -> bool:
        """Whether the jobs that it needs have succeeded. Raises `InvalidRequest` for one that will not."""
        needed = [(need, self._table.get(tx, need)) for need in job.needs]
        for need, found in needed:
            if found is None or found.tenant != job.tenant:
                raise InvalidRequest(f"There is no job {need!r}.", param="needs")
            if found.ended and found.state != JobState.SUCCEEDED:
                raise InvalidRequest(f"The job {need!r} has {found.state}.", param="needs")
        return all(found.ended for _, found in needed if found is not None)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _event(self, action: str, job_id: str, by: Principal) -> AuditEvent:
        now = self._clock.wall()
        return AuditEvent(at=now, actor=by.key_id, tenant=by.tenant, action=action, target=job_id)

    def _find(self, tx: Connection, job_id: str, tenant: str | None) -> Job:
        job = self._table.get(tx, job_id)
        if job is None or tenant not in (None, job.tenant):
            raise not_found(job_id)
        return job

    def _put(self, tx: Connection, old: Job, new: Job) -> Job:
        if new == old:
            return old
        self._table.put(tx, new)
        if new.ended and not old.ended:
            self._end(tx, new)
        return new

    def _end(self, tx: Connection, job: Job) -> None:
        """All that follows from a job's end, in the same transaction."""
        ended = [job]
        for each in ended:  # grows: what needs a job that did not succeed ends with it
            self._tell_end(tx, each)
            for waiting in self._table.needing(tx, each.id):
                after = self._after_need(tx, waiting, each)
                if after != waiting:
                    self._table.put(tx, after)
                    ended += [after] if after.ended else []

    def _tell_end(self, tx: Connection, job: Job) -> None:
        kind = self._kinds.get(job.kind)
        if kind is not None and kind.on_ended is not None:
            kind.on_ended(tx, job)
        for listener in self.on_ended:
            listener(tx, job)

    def _after_need(self, tx: Connection, waiting: Job, need: Job) -> Job:
        if need.state != JobState.SUCCEEDED:
            return machine.need_failed(waiting, need.id, self._clock.wall())
        others = [self._table.get(tx, other) for other in waiting.needs]
        met = all(other is not None and other.state == JobState.SUCCEEDED for other in others)
        return machine.needs_met(waiting) if met else waiting

    def _spread(self, old: Job, new: Job) -> Job:
        for listener in self.on_changed:
            listener(old, new)
        return new


def not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.")
