"""Every job of this Pileus, as its owner keeps it: each change is one transaction, by the rules of `machine`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import rmtree

from msgspec import Struct, structs
from sqlalchemy import Connection

from pileus.config.settings import Jobs
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, NotFound, Unavailable
from pileus.core.ids import new_id
from pileus.core.records import PRIORITY_LIMIT, AuditEvent, Principal
from pileus.jobs import machine
from pileus.jobs.handler import Kind
from pileus.observability.events import get_log
from pileus.store.job_table import ENDED, Job, JobLine, JobLineTable, JobState, JobTable
from pileus.store.port import Store
from pileus.store.tables import AuditTable

LINES_KEPT = 1000  # of each job
_LINE_LIMIT = 2000  # characters
_LINES_WAITING = 10_000  # of all jobs, between two writes
_TICK_S = 0.5
_FORGET_AT_ONCE = 500
_CLOCK_TOLERANCE_S = 60.0

log = get_log(__name__)

Change = Callable[[Job], Job]


class Progress(Struct, frozen=True):
    """How far a lease is, as last told."""

    fence: int
    stage: str
    done: int
    total: int


class JobService:
    """For one event loop."""

    def __init__(self, store: Store, kinds: Iterable[Kind], settings: Jobs, folder: Path, clock: Clock) -> None:
        self.kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}
        self.on_queued: list[Callable[[str], None]] = []  # called with a kind that may have work
        self.on_wished: list[Callable[[Job], None]] = []  # called with a running job of which something is asked
        # Called with a job that ends, in the transaction that ends it, and so in the store's thread.
        self.on_ended: list[Callable[[Connection, Job], None]] = []
        self._store = store
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._table, self._lines, self._audit = JobTable(), JobLineTable(), AuditTable()
        self._progress: dict[str, Progress] = {}
        self._told: defaultdict[str, list[tuple[float, str, str]]] = defaultdict(list)
        self._told_count = 0

    # --- for everybody ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        kind: str,
        principal: Principal,
        spec: bytes,
        *,
        needs: Sequence[str] = (),
        blobs: Sequence[str] = (),
        priority: int = 0,
        due_at: float | None = None,
        job_id: str | None = None,
    ) -> Job:
        """On record when this returns. Raises `InvalidRequest` where it needs what is not there."""
        job = self.draft(kind, principal.tenant, principal.key_id, spec, blobs=blobs, due_at=due_at, job_id=job_id)
        if not -PRIORITY_LIMIT <= priority <= principal.max_priority:
            raise InvalidRequest(
                f"`priority` should be a whole number from {-PRIORITY_LIMIT} to {principal.max_priority}",
                param="priority",
            )
        job = structs.replace(job, needs=tuple(needs), priority=priority)
        return await self._submit(job)

    def draft(
        self,
        kind: str,
        tenant: str,
        key_id: str,
        spec: bytes,
        *,
        blobs: Sequence[str] = (),
        due_at: float | None = None,
        job_id: str | None = None,
    ) -> Job:
        """A job that is not submitted yet."""
        return Job(
            id=job_id or new_id("job"),
            kind=self.kinds[kind].name,
            tenant=tenant,
            key_id=key_id,
            spec=spec,
            blobs=tuple(blobs),
            created_at=self._clock.wall(),
            due_at=due_at,
        )

    def submit_in(self, tx: Connection, job: Job) -> None:
        """Submit a draft together with other changes. It begins with the next look at the store."""
        self._table.insert(tx, job)

    async def get(self, job_id: str, tenant: str | None) -> Job:
        """Raises `NotFound`, also for another tenant's; `None` sees all."""
        job = await self._store.read(lambda tx: self._table.get(tx, job_id))
        if job is None or tenant not in (None, job.tenant):
            raise _not_found(job_id)
        return self._shown(job)

    async def latest(
        self,
        tenant: str | None,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """The latest first, from the first before that sequence number on; `None` sees all tenants'."""
        query = partial(self._table.latest, tenant=tenant, kind=kind, state=state, before=before, limit=limit)
        return [self._shown(job) for job in await self._store.read(query)]

    async def lines(self, job_id: str, after: int | None, limit: int) -> list[JobLine]:
        """What the job told: from the first line after that sequence number on, or the last lines."""
        if after is None:
            return await self._store.read(lambda tx: self._lines.latest(tx, job_id, limit))
        return await self._store.read(lambda tx: self._lines.after(tx, job_id, after, limit))

    async def pause(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Raises `NotFound`, or `NotPossible` in a state that does not allow it."""
        return await self._act("job.pause", job_id, by, tenant, lambda tx, job: machine.paused(job))

    async def resume(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Go on with a job that was paused, or that failed. Raises as `pause`."""

        def change(tx: Connection, job: Job) -> Job:
            return machine.resumed(job, needs_met=self._needs_met(tx, job))

        return await self._act("job.resume", job_id, by, tenant, change)

    async def cancel(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Raises as `pause`."""

        def change(tx: Connection, job: Job) -> Job:
            return machine.cancelled(job, self._clock.wall(), closes=self._closes(job))

        return await self._act("job.cancel", job_id, by, tenant, change)

    async def forget(self, job_id: str, by: Principal, tenant: str | None) -> None:
        """Delete a job that has ended, with what it has left. Raises as `pause`."""
        event = self._event("job.forget", job_id, by)

        def work(tx: Connection) -> None:
            job = self._find(tx, job_id, tenant)
            if not job.ended:
                raise machine.NotPossible(f"The job {job_id} cannot be deleted: it is {job.state}. Cancel it first.")
            self._audit.insert(tx, [event])
            self._table.forget(tx, [job_id])

        await self._store.write(work)
        await asyncio.to_thread(rmtree, self.folder(job_id), ignore_errors=True)

    async def count_open(self, kind: str, tenant: str) -> int:
        """How many of a kind a tenant has that have not ended."""
        states = [state for state in JobState if state not in ENDED]
        return await self._store.read(lambda tx: self._table.count(tx, kind, states, tenant))

    # --- for the desk -------------------------------------------------------------------------------------------------

    async def lease(self, kind: str, limit: int) -> list[Job]:
        """As many of a kind as there are and may be, the most urgent first."""

        def work(tx: Connection) -> list[Job]:
            now = self._clock.wall()
            latest_ready = now + machine.LONGEST_BACKOFF_S + _CLOCK_TOLERANCE_S
            jobs = [machine.leased(job, now) for job in self._table.next(tx, kind, now, latest_ready, limit)]
            for job in jobs:
                self._table.put(tx, job)
            return jobs

        return await self._store.write(work)

    async def checkpoint(self, job_id: str, fence: int, body: bytes, stage: str, done: int, total: int) -> None:
        """Raises `LeaseLost`."""
        self._progress.pop(job_id, None)
        await self._change(job_id, lambda job: machine.checkpointed(job, fence, body, stage, done, total))

    async def finish(self, job_id: str, fence: int, result: bytes) -> None:
        """Raises `LeaseLost`."""
        await self._change(job_id, lambda job: machine.finished(job, fence, result, self._clock.wall()))

    async def give_back(self, job_id: str, fence: int) -> None:
        """Raises `LeaseLost`."""
        await self._change(job_id, lambda job: machine.yielded(job, fence))

    async def fail(self, job_id: str, fence: int, code: str, error: str, *, retry: bool) -> None:
        """Raises `LeaseLost`."""

        def change(job: Job) -> Job:
            own = self.kinds[job.kind].retries
            retries = (self._settings.retries if own is None else own) if retry else 0
            return machine.failed(job, fence, code, error, self._clock.wall(), retries)

        await self._change(job_id, change)
        self.tell(job_id, "error", error)

    def progress(self, job_id: str, progress: Progress) -> None:
        self._progress[job_id] = progress

    def tell(self, job_id: str, level: str, text: str) -> None:
        """A line of the job's log; it is written soon."""
        if self._told_count < _LINES_WAITING:
            self._told_count += 1
            self._told[job_id].append((self._clock.wall(), level, text[:_LINE_LIMIT]))

    # --- the owner's life ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take over: what was leased under an earlier owner is queued again. Blocks."""

        def work(tx: Connection) -> None:
            for job in self._table.in_state(tx, [JobState.RUNNING]):
                self._table.put(tx, machine.yielded(job, job.fence))

        self._store.write_blocking(work)

    def folder(self, job_id: str) -> Path:
        """The job's own."""
        return self._folder / job_id

    async def run(self) -> None:
        """Expire, forget, write what was told, and look for jobs whose time has come; until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except Unavailable as error:  # the next tick tries again
                log.warning("jobs.not_written", reason=error.message)
            for kind in self.kinds:
                self._queued(kind)

    async def _tick(self) -> None:
        now = self._clock.wall()
        for job in await self._store.read(lambda tx: self._table.due(tx, now)):
            closes = self._closes(job)
            await self._change(job.id, lambda job, closes=closes: _expired(job, now, closes=closes))  # type: ignore[misc]
        await self.write_lines()
        forgotten = await self._store.write(self._forget) if await self._store.read(self._is_there_old) else []
        for job_id in forgotten:
            await asyncio.to_thread(rmtree, self.folder(job_id), ignore_errors=True)

    async def write_lines(self) -> None:
        """Write what was told up to now."""
        told, self._told = self._told, defaultdict(list)
        self._told_count = 0
        if not told:
            return

        def work(tx: Connection) -> None:
            for job_id, lines in told.items():
                self._lines.insert(tx, job_id, lines, LINES_KEPT)

        try:
            await self._store.write(work)
        except Unavailable:
            for job_id, lines in told.items():
                self._told[job_id][:0] = lines
            raise

    def _is_there_old(self, tx: Connection) -> bool:
        return any(self._old(tx, 1))

    def _forget(self, tx: Connection) -> list[str]:
        ids = self._old(tx, _FORGET_AT_ONCE)
        self._table.forget(tx, ids)
        return ids

    def _old(self, tx: Connection, limit: int) -> list[str]:
        now = self._clock.wall()
        found: list[str] = []
        for kind in self.kinds.values():
            keep_s = self._settings.keep_s if kind.keep_s is None else kind.keep_s
            found += self._table.ended_before(tx, kind.name, now - keep_s, limit)
        return found

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _submit(self, job: Job) -> Job:
        def work(tx: Connection) -> Job:
            met = self._needs_met(tx, job)
            return self._table.insert(tx, job if met else structs.replace(job, state=JobState.WAITING))

        stored = await self._store.write(work)
        self._queued(job.kind)
        return stored

    def _needs_met(self, tx: Connection, job: Job) -> bool:
        """Whether the jobs that it needs have succeeded. Raises `InvalidRequest` for one that will not."""
        needed = [(need, self._table.get(tx, need)) for need in job.needs]
        for need, found in needed:
            if found is None or found.tenant != job.tenant:
                raise InvalidRequest(f"There is no job {need!r}.", param="needs")
            if found.ended and found.state != JobState.SUCCEEDED:
                raise InvalidRequest(f"The job {need!r} has {found.state}.", param="needs")
        return all(found.ended for _, found in needed if found is not None)

    async def _act(
        self,
        action: str,
        job_id: str,
        by: Principal,
        tenant: str | None,
        change: Callable[[Connection, Job], Job],
    ) -> Job:
        """What somebody does to a job, on record in the audit."""
        event = self._event(action, job_id, by)

        def work(tx: Connection) -> tuple[Job, Job]:
            job = self._find(tx, job_id, tenant)
            self._audit.insert(tx, [event])
            return job, self._put(tx, job, change(tx, job))

        return self._spread(*await self._store.write(work))

    def _event(self, action: str, job_id: str, by: Principal) -> AuditEvent:
        now = self._clock.wall()
        return AuditEvent(at=now, actor=by.key_id, tenant=by.tenant, action=action, target=job_id)

    def _find(self, tx: Connection, job_id: str, tenant: str | None) -> Job:
        job = self._table.get(tx, job_id)
        if job is None or tenant not in (None, job.tenant):
            raise _not_found(job_id)
        return job

    async def _change(self, job_id: str, change: Change) -> Job:
        def work(tx: Connection) -> tuple[Job, Job]:
            job = self._table.get(tx, job_id)
            if job is None:
                raise machine.LeaseLost
            return job, self._put(tx, job, change(job))

        return self._spread(*await self._store.write(work))

    def _put(self, tx: Connection, old: Job, new: Job) -> Job:
        if new == old:
            return old
        if new.ended:
            new = structs.replace(new, blobs=())
        self._table.put(tx, new)
        if new.ended and not old.ended:
            self._end(tx, new)
        return new

    def _end(self, tx: Connection, job: Job) -> None:
        """All that follows from a job's end, in the same transaction."""
        kind = self.kinds.get(job.kind)
        if kind is not None and kind.on_ended is not None:
            kind.on_ended(tx, job)
        for listener in self.on_ended:
            listener(tx, job)
        for waiting in self._table.in_state(tx, [JobState.WAITING]):
            if job.id in waiting.needs:
                self._put(tx, waiting, self._after_need(tx, waiting, job))

    def _after_need(self, tx: Connection, waiting: Job, need: Job) -> Job:
        if need.state != JobState.SUCCEEDED:
            return machine.need_failed(waiting, need.id, self._clock.wall())
        others = [self._table.get(tx, other) for other in waiting.needs]
        met = all(other is not None and other.state == JobState.SUCCEEDED for other in others)
        return machine.needs_met(waiting) if met else waiting

    def _spread(self, old: Job, new: Job) -> Job:
        """Tell the listeners of a change that is on record."""
        if new.ended or new.state != JobState.RUNNING:
            self._progress.pop(new.id, None)
        if new.state == JobState.RUNNING and new.wish != old.wish:
            for listener in self.on_wished:
                listener(new)
        if new.state == JobState.QUEUED:
            self._queued(new.kind)
        return self._shown(new)

    def _queued(self, kind: str) -> None:
        for listener in self.on_queued:
            listener(kind)

    def _closes(self, job: Job) -> bool:
        kind = self.kinds.get(job.kind)
        return kind is not None and kind.closes

    def _shown(self, job: Job) -> Job:
        """With the progress that was told since its last checkpoint."""
        told = self._progress.get(job.id)
        if told is None or told.fence != job.fence or job.state != JobState.RUNNING:
            return job
        return structs.replace(job, stage=told.stage, done=told.done, total=told.total)


def _expired(job: Job, now: float, *, closes: bool) -> Job:
    return job if job.ended else machine.expired(job, now, closes=closes)


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id!r}.")
