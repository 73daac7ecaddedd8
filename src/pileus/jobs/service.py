"""Every job of this Pileus, as its owner keeps it, by the rules of `machine`."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from msgspec import structs
from sqlalchemy import Connection

from pileus.config.settings import Jobs
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, Unavailable
from pileus.core.ids import new_id
from pileus.core.records import PRIORITY_LIMIT, Principal
from pileus.jobs import machine
from pileus.jobs.folders import JobFolders
from pileus.jobs.handler import Kind
from pileus.jobs.machine import LeaseLost
from pileus.jobs.metrics import METRICS_FILE, MetricPoint, read_points
from pileus.jobs.recording import Recorder, not_found
from pileus.jobs.told import LINE_LIMIT, Progress, Told
from pileus.observability.events import get_log
from pileus.store.job_table import ENDED, Among, Job, JobLine, JobLineTable, JobState, JobTable
from pileus.store.port import Store

_TICK_S = 0.5
_END_AT_ONCE = 500  # jobs whose time is over
_FORGET_S = 60.0  # between two looks for what is old
_FORGET_AT_ONCE = 500
_CLOCK_TOLERANCE_S = 60.0
_FOR_GOOD = (JobState.SUCCEEDED, JobState.CANCELLED, JobState.EXPIRED)  # what failed may be resumed

log = get_log(__name__)


class JobService:
    """For one event loop."""

    def __init__(self, store: Store, kinds: Iterable[Kind], settings: Jobs, folder: Path, clock: Clock) -> None:
        self.kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}
        self.on_queued: list[Callable[[str], None]] = []  # called with a kind that may have work
        self.on_wished: list[Callable[[Job], None]] = []  # called with a running job of which something is asked
        self._recorder = Recorder(store, self.kinds, clock)
        self._recorder.on_changed.append(self._on_changed)
        # Called with a job as it was and as it is on record.
        self.on_changed: list[Callable[[Job, Job], None]] = self._recorder.on_changed
        # Called with a job that ends, in the transaction that ends it, and so in the store's thread.
        self.on_ended: list[Callable[[Connection, Job], None]] = self._recorder.on_ended
        self._told = Told(store, clock)
        self._store = store
        self._settings = settings
        self._folders = JobFolders(folder)
        self._clock = clock
        self._table, self._lines = JobTable(), JobLineTable()
        self._offset = clock.wall() - clock.monotonic()
        self._forget_at = clock.monotonic()
        self._spent: list[tuple[str, str]] = []  # kind and id of what ended for good, where not all is to stay

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
        once: bool = False,
    ) -> Job:
        """On record when this returns. With `once`, the tenant's job of this kind and spec that has not ended takes its
        place, if there is one. Raises `InvalidRequest` where it needs what is not there."""
        job = self.draft(kind, principal.tenant, principal.key_id, spec, blobs=blobs, due_at=due_at, job_id=job_id)
        if not -PRIORITY_LIMIT <= priority <= principal.max_priority:
            raise InvalidRequest(
                f"`priority` should be a whole number from {-PRIORITY_LIMIT} to {principal.max_priority}",
                param="priority",
            )
        job = structs.replace(job, needs=tuple(needs), priority=priority)
        return await self._submit(job, once=once)

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
        """Submit a draft together with other changes. It begins within a tick, or with `wake` after the commit."""
        self._table.insert(tx, job)

    def wake(self, kind: str) -> None:
        """That kind may have work."""
        for listener in self.on_queued:
            listener(kind)

    async def get(self, job_id: str, tenant: str | None) -> Job:
        """Raises `NotFound`, also for another tenant's; `None` sees all."""
        job = await self._store.read(lambda tx: self._table.get(tx, job_id))
        if job is None or tenant not in (None, job.tenant):
            raise not_found(job_id)
        return self._told.shown(job)

    async def latest(
        self,
        tenant: str | None,
        *,
        kind: str | None = None,
        state: JobState | None = None,
        before: int | None = None,
        limit: int = 100,
        results: bool = True,
    ) -> list[Job]:
        """The latest first, from the first before that sequence number on; `None` sees all tenants'. Results may be
        large: leave them out where nobody looks at them."""
        query = partial(self._table.latest, tenant=tenant, kind=kind, state=state, before=before, limit=limit)
        return [self._told.shown(job) for job in await self._store.read(partial(query, results=results))]

    async def lines(self, job_id: str, after: int | None, limit: int) -> list[JobLine]:
        """What the job told up to now: from the first line after that sequence number on, or the last lines."""
        await self._told.write()
        if after is None:
            return await self._store.read(lambda tx: self._lines.latest(tx, job_id, limit))
        return await self._store.read(lambda tx: self._lines.after(tx, job_id, after, limit))

    def points(self, job_id: str, most: int) -> list[MetricPoint]:
        """The figures that it told, thinned out to at most so many steps. Blocks."""
        return read_points(self.folder(job_id) / METRICS_FILE, most)

    async def pause(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Raises `NotFound`, or `NotPossible` in a state that does not allow it."""
        return await self._act("job.pause", job_id, by, tenant, lambda tx, job: machine.paused(job))

    async def resume(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Go on with a job that was paused, or that failed. Raises as `pause`."""

        def change(tx: Connection, job: Job) -> Job:
            met = job.started_at is not None or self._recorder.needs_met(tx, job)
            return machine.resumed(job, needs_met=met)

        return await self._act("job.resume", job_id, by, tenant, change)

    async def cancel(self, job_id: str, by: Principal, tenant: str | None) -> Job:
        """Raises as `pause`."""

        def change(tx: Connection, job: Job) -> Job:
            return machine.cancelled(job, self._clock.wall(), closes=self._closes(job))

        return await self._act("job.cancel", job_id, by, tenant, change)

    async def forget(self, job_id: str, by: Principal, tenant: str | None) -> None:
        """Delete a job that has ended and that no other needs, with what it has left. Raises as `pause`."""
        await self._recorder.forget(job_id, by, tenant)
        await asyncio.to_thread(self._folders.delete, [job_id])

    async def count_open(self, kind: str, tenant: str) -> int:
        """How many of a kind a tenant has that have not ended."""
        states = [state for state in JobState if state not in ENDED]
        return await self._store.read(lambda tx: self._table.count(tx, kind, states, tenant))

    # --- for the desk -------------------------------------------------------------------------------------------------

    async def lease(
        self, kind: str, limit: int, most_bytes: int = sys.maxsize, among: Among | None = None
    ) -> list[Job]:
        """As many of a kind as there are and may be, the most urgent first, and no tenant's all before another's.
        Not more than so many bytes, but for the first."""
        self._told.troubles.pop(kind, None)  # somebody asks for them
        await self._follow_clock()  # before a holder reckons with its deadline

        def work(tx: Connection) -> list[Job]:
            now = self._clock.wall()
            found = self._table.next(tx, kind, now, _latest_ready(now), limit, most_bytes, among)
            jobs = [machine.leased(job, now) for job in found]
            for job in jobs:
                self._table.put(tx, job)
            return jobs

        return await self._store.write(work)

    async def has_ready(self, kind: str, among: Among) -> bool:
        """Whether one of them could be leased."""
        now = self._clock.wall()
        return await self._store.read(lambda tx: self._table.has_ready(tx, kind, now, _latest_ready(now), among))

    async def checkpoint(self, job_id: str, fence: int, body: bytes, stage: str, done: int, total: int) -> None:
        """Raises `LeaseLost`."""
        await self._recorder.change(job_id, lambda job: machine.checkpointed(job, fence, body, stage, done, total))
        self._told.progress.pop(job_id, None)

    async def finish(self, job_id: str, fence: int, result: bytes) -> None:
        """Raises `LeaseLost`."""
        await self._recorder.change(job_id, lambda job: machine.finished(job, fence, result, self._clock.wall()))

    async def give_back(self, job_id: str, fence: int) -> None:
        """Raises `LeaseLost`."""
        await self._recorder.change(job_id, lambda job: machine.yielded(job, fence))

    async def fail(
        self, job_id: str, fence: int, code: str, error: str, *, retry: bool, counts: bool = True, result: bytes = b""
    ) -> None:
        """See `machine.failed`. Raises `LeaseLost`."""
        error = error[:LINE_LIMIT]

        def change(job: Job) -> Job:
            retries = self._retries(job) if retry else 0
            now, closes = self._clock.wall(), self._closes(job)
            return machine.failed(job, fence, code, error, now, retries, closes=closes, counts=counts, result=result)

        try:
            await self._recorder.change(job_id, change)
        except (LeaseLost, Unavailable):
            raise
        except Exception as own:  # the kind's own account of the end went wrong: then the job may not end
            log.error("job_not_ended", job=job_id, exc_info=own)
            error = f"{error} (and its end cannot be put on record: {type(own).__name__}: {own})"[:LINE_LIMIT]
            await self._recorder.change(
                job_id,
                lambda job: machine.failed(job, fence, code, error, self._clock.wall(), sys.maxsize, closes=True),
            )
        self.tell(job_id, "error", error)

    async def not_begun(self, kind: str, reason: str) -> None:
        """No worker for that kind could be started. Its jobs wait and show why, but for those that wait only to end."""
        self._told.troubles[kind] = reason[:LINE_LIMIT]

        def change(job: Job) -> Job:
            return machine.not_begun(job, "worker_not_started", reason, self._clock.wall(), self._retries(job))

        await self._recorder.change_each(await self._store.read(lambda tx: self._table.closing(tx, kind)), change)

    def progress(self, job_id: str, progress: Progress) -> None:
        self._told.progress[job_id] = progress

    def tell(self, job_id: str, level: str, text: str) -> None:
        """A line of the job's log; it is written soon."""
        self._told.line(job_id, level, text)

    async def write_lines(self) -> None:
        """Write what was told up to now. Raises `Unavailable`."""
        await self._told.write()

    # --- the owner's life ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take over: what was leased under an earlier owner is queued again, and folders of jobs that are forgotten are
        deleted. Blocks."""
        stripped = [kind.name for kind in self.kinds.values() if kind.lasting is not None]

        def work(tx: Connection) -> set[str]:
            for job in self._table.in_state(tx, [JobState.RUNNING]):
                self._table.put(tx, machine.yielded(job, job.fence))
            self._spent = [(kind, job_id) for kind in stripped for job_id in self._table.ids(tx, kind, _FOR_GOOD)]
            return self._table.ids(tx)

        self._folders.delete_others(self._store.write_blocking(work))

    def folder(self, job_id: str) -> Path:
        """The job's own."""
        return self._folders.of(job_id)

    async def run(self) -> None:
        """Expire, forget, write what was told, and look for jobs whose time has come; until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self.tick()
            except Unavailable as error:  # the next tick tries again
                log.warning("jobs.not_written", reason=error.message)

    async def tick(self) -> None:
        """Where nothing is to be done, this writes nothing and reads with one statement more than there are kinds."""
        await self._follow_clock()
        now = self._clock.wall()
        due, kinds = await self._store.read(partial(self._look, now))
        for kind in kinds:
            self.wake(kind)
        await self._recorder.change_each(due, lambda job: machine.expired(job, now, closes=self._closes(job)))
        await self.write_lines()
        spent, self._spent = self._spent, []
        if spent:
            left = [(job_id, self.kinds[kind].lasting or ()) for kind, job_id in spent]
            await asyncio.to_thread(self._folders.strip, left)
        if self._clock.monotonic() >= self._forget_at:
            await self._forget()

    def _look(self, now: float, tx: Connection) -> tuple[list[str], list[str]]:
        """The jobs whose time is over, and the kinds that have work."""
        ready = [kind for kind in self.kinds if self._table.has_ready(tx, kind, now, _latest_ready(now))]
        return self._table.due(tx, now, _END_AT_ONCE), ready

    async def _follow_clock(self) -> None:
        """Where the clock was set, take deadlines along: they were meant as so much time."""
        offset = self._clock.wall() - self._clock.monotonic()
        by_s, self._offset = offset - self._offset, offset
        if abs(by_s) <= _CLOCK_TOLERANCE_S:
            return
        log.warning("jobs.clock_set", by_s=round(by_s))
        try:
            await self._store.write(lambda tx: self._table.shift(tx, by_s))
        except Unavailable:
            self._offset -= by_s
            raise

    async def _forget(self) -> None:
        """Delete what ended long ago, with its folders."""
        old = await self._store.read(self._old)
        if old:
            await self._store.write(lambda tx: self._table.forget(tx, old))
            await asyncio.to_thread(self._folders.delete, old)
        if len(old) < _FORGET_AT_ONCE:  # else there may be more
            self._forget_at = self._clock.monotonic() + _FORGET_S

    def _old(self, tx: Connection) -> list[str]:
        now = self._clock.wall()
        found: list[str] = []
        for kind in self.kinds.values():
            keep_s = self._settings.keep_s if kind.keep_s is None else kind.keep_s
            found += self._table.ended_before(tx, kind.name, now - keep_s, _FORGET_AT_ONCE - len(found))
        return found

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _submit(self, job: Job, *, once: bool) -> Job:
        await self._follow_clock()  # before this one's deadline is on record

        def work(tx: Connection) -> Job:
            if once and (found := self._table.like(tx, job)) is not None:
                return found
            met = self._recorder.needs_met(tx, job)
            return self._table.insert(tx, job if met else structs.replace(job, state=JobState.WAITING))

        stored = await self._store.write(work)
        self.wake(job.kind)
        return self._told.shown(stored)

    async def _act(
        self, action: str, job_id: str, by: Principal, tenant: str | None, change: Callable[[Connection, Job], Job]
    ) -> Job:
        return self._told.shown(await self._recorder.act(action, job_id, by, tenant, change))

    def _on_changed(self, old: Job, new: Job) -> None:
        if new.state != JobState.RUNNING:
            self._told.progress.pop(new.id, None)
        elif new.wish != old.wish:
            for listener in self.on_wished:
                listener(new)
        if new.state == JobState.QUEUED:
            self.wake(new.kind)
        kind = self.kinds.get(new.kind)
        if new.state in _FOR_GOOD and kind is not None and kind.lasting is not None:
            self._spent.append((new.kind, new.id))

    def _retries(self, job: Job) -> int:
        kind = self.kinds.get(job.kind)
        return self._settings.retries if kind is None or kind.retries is None else kind.retries

    def _closes(self, job: Job) -> bool:
        kind = self.kinds.get(job.kind)
        return kind is not None and kind.closes


def _latest_ready(now: float) -> float:
    """Later than any `ready_at` that can be meant."""
    return now + machine.LONGEST_BACKOFF_S + _CLOCK_TOLERANCE_S
