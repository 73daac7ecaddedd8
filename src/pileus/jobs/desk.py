"""Where worker processes come for jobs: gives leases, takes checkpoints and results, and notices who is gone."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import Struct

from pileus.core.clock import Clock
from pileus.core.errors import PileusError, Unavailable
from pileus.gateway.forwarding.channel import Channel
from pileus.jobs import wire
from pileus.jobs.company import Company
from pileus.jobs.machine import LeaseLost
from pileus.jobs.service import JobService
from pileus.jobs.told import Progress
from pileus.observability.events import get_log
from pileus.store.job_table import Among, Job

IDLE_S = 300.0  # a worker that had nothing to do for so long ends
_TICK_S = 1.0
_LAST_WRITES_S = 1.0
_LEASED_AT_ONCE_BYTES = 8 << 20  # then the worker reads before it gets more
_LAST_GRACE_S = 10.0  # for a handler that was cut off to be gone

log = get_log(__name__)


class Held(Struct):
    """A lease that a worker has."""

    id: str
    fence: int
    asked_at: float | None = None  # since when something is asked of it
    is_dropped: bool = False


class WorkerSeat:
    """One worker process, as the owner sees it."""

    def __init__(self, desk: "Desk", channel: "Channel[wire.FromWorker]", now: float) -> None:
        self.channel = channel
        self.kind = ""  # until it says
        self.pid = 0
        self.heard_at = now
        self.busy_at = now
        self.stopping = False
        self.held: dict[str, Held] = {}
        self._desk = desk

    def on_connected(self) -> None:
        """It speaks first."""

    def on_frame(self, frame: wire.FromWorker) -> None:
        self._desk.on_frame(self, frame)

    def on_gone(self, reason: str) -> None:
        self._desk.on_gone(self, reason)


class Desk:
    """For one event loop."""

    def __init__(self, jobs: JobService, lease_s: float, clock: Clock) -> None:
        self.on_ready: list[Callable[[int], None]] = []  # called with the process id of one that takes jobs
        self.on_further: list[Callable[[int], None]] = []  # called with the process id of one that got a job further
        self.on_lost: list[Callable[[int], None]] = []  # called with the process id of one that must be ended
        self._jobs = jobs
        self._lease_s = lease_s
        self._now = clock.monotonic
        self._seats: list[WorkerSeat] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopping = False
        self._assigning: set[str] = set()
        self._again: set[str] = set()  # kinds to look at once more
        self._tasks: set[asyncio.Task[None]] = set()
        jobs.on_queued.append(self.assign)
        self._company = Company()
        jobs.on_wished.append(self._on_wished)
        jobs.on_changed.append(self._on_changed)

    async def serve(self, path: Path) -> asyncio.Server:
        """Let workers connect there; whoever can must be allowed to."""
        return await asyncio.get_running_loop().create_unix_server(self._connect, str(path))

    def assign(self, kind: str) -> None:
        """Give queued jobs of a kind to workers that have places."""
        if kind in self._assigning:
            self._again.add(kind)
        elif any(self._free(seat) for seat in self._seats if seat.kind == kind):
            self._assigning.add(kind)
            self._begin(self._assign(kind))

    async def run(self) -> None:
        """Notice workers that are silent or do not do what is asked, and let go of those that have nothing to do; until
        cancelled."""
        looked_at = self._now()
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._now()
            if now - looked_at > _TICK_S + self._lease_s / 2:  # it was this process that was away
                for seat in self._seats:
                    seat.heard_at = now
            looked_at = now
            for seat in tuple(self._seats):
                self._look_at(seat, now)

    def _look_at(self, seat: WorkerSeat, now: float) -> None:
        if now - seat.heard_at > self._lease_s:
            self._give_up(seat, f"it was silent for {self._lease_s:.0f} s")
        elif not seat.held and now - seat.busy_at > IDLE_S:
            self._stop(seat)
        for held in tuple(seat.held.values()):
            self._press(seat, held, now)

    def _press(self, seat: WorkerSeat, held: Held, now: float) -> None:
        """Have it do what was asked of it."""
        if held.asked_at is None:
            return
        overdue_s = now - held.asked_at - self._jobs.kinds[seat.kind].grace_s
        if overdue_s > _LAST_GRACE_S:
            self._give_up(seat, "a handler did not do what was asked of it, nor end")
        elif overdue_s > 0 and not held.is_dropped:
            held.is_dropped = True
            self._jobs.tell(held.id, "warning", "the handler did not do what was asked of it; it is cut off")
            seat.channel.send(wire.Drop(held.id, held.fence))

    async def stop(self, grace_s: float) -> None:
        """Have every worker give back what it has; return when all are gone, or after that long."""
        self._stopping = True
        for seat in self._seats:
            self._stop(seat)
        if self._seats:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WRITES_S)

    # --- what workers say ---------------------------------------------------------------------------------------------

    def on_frame(self, seat: WorkerSeat, frame: wire.FromWorker) -> None:
        seat.heard_at = self._now()
        if isinstance(frame, wire.Hello):
            seat.kind, seat.pid = frame.kind, frame.pid
            self._on_ready(seat)
        elif isinstance(frame, wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail):
            self._begin(self._record(seat, frame))
        elif isinstance(frame, wire.Progress | wire.Line):
            self._note(seat, frame)
        elif isinstance(frame, wire.Leave):
            self._stop(seat)

    def on_gone(self, seat: WorkerSeat, reason: str) -> None:
        if seat in self._seats:
            self._seats.remove(seat)
        if not self._seats:
            self._empty.set()
        if seat.held:
            log.warning("job_worker_lost", kind=seat.kind, pid=seat.pid, jobs=len(seat.held), reason=reason)
        counts = not self._stopping and self._company.lost(seat.kind, seat.held)
        for held in seat.held.values():
            self._begin(self._lose(held, reason, counts=counts))
        seat.held.clear()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _on_ready(self, seat: WorkerSeat) -> None:
        log.info("job_worker_ready", kind=seat.kind, pid=seat.pid)
        for listener in self.on_ready:
            listener(seat.pid)
        if self._stopping:
            self._stop(seat)
        self.assign(seat.kind)

    def _connect(self) -> "Channel[wire.FromWorker]":
        channel: Channel[wire.FromWorker] = Channel(wire.decode_from_worker, wire.MAX_FRAME_BYTES)
        seat = WorkerSeat(self, channel, self._now())
        channel.listen(seat)
        self._seats.append(seat)
        return channel

    async def _assign(self, kind: str) -> None:
        try:
            while seat := next((each for each in self._seats if each.kind == kind and self._free(each)), None):
                self._again.discard(kind)
                await seat.channel.flows()
                if seat not in self._seats or not self._free(seat):
                    continue
                jobs = await self._lease(seat)
                for job in jobs:
                    self._give(seat, job)
                if not jobs and kind not in self._again:
                    return
        except Unavailable as error:  # the next tick tries again
            log.warning("jobs.not_leased", kind=kind, reason=error.message)
        finally:
            self._assigning.discard(kind)
            self._again.discard(kind)

    async def _lease(self, seat: WorkerSeat) -> list[Job]:
        """What that worker gets next. Where a job may be at work with few others only, and that many are there, nobody
        gets in before it."""
        suspects = self._company.suspects(seat.kind)
        for most, ids in suspects:
            room = min(self._free(seat), most - len(seat.held))
            if room > 0:
                if jobs := await self._jobs.lease(seat.kind, room, _LEASED_AT_ONCE_BYTES, Among(ids)):
                    return jobs
            elif await self._jobs.has_ready(seat.kind, Among(ids)):
                return []
        others = Among([each for _, ids in suspects for each in ids], these=False) if suspects else None
        return await self._jobs.lease(seat.kind, self._free(seat), _LEASED_AT_ONCE_BYTES, others)

    def _give(self, seat: WorkerSeat, job: Job) -> None:
        held = Held(job.id, job.fence, self._now() if job.wish else None)
        if seat not in self._seats or seat.stopping:
            self._begin(self._return(held))
            return
        seat.held[job.id] = held
        seat.busy_at = self._now()
        seat.channel.send(wire.Lease(job))

    def _free(self, seat: WorkerSeat) -> int:
        kind = self._jobs.kinds.get(seat.kind)
        if kind is None or seat.stopping:
            return 0
        return self._company.most(kind.name, seat.held, kind.places) - len(seat.held)

    async def _record(self, seat: WorkerSeat, frame: wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail) -> None:
        """Put on record what a worker tells, and say so. Where that is not possible now, it is told to try again."""
        try:
            await self._enter(frame)
        except PileusError as error:
            if isinstance(error, LeaseLost):
                self._let_go(seat, frame)
            seat.channel.send(wire.Refused(frame.number, error.code, error.message))
            return
        except Exception as error:  # a kind's own account of a job's end went wrong: the worker must hear of it
            log.error("job_not_recorded", job=frame.job, exc_info=error)
            seat.channel.send(wire.Refused(frame.number, "server_error", f"{type(error).__name__}: {error}"))
            return
        if not isinstance(frame, wire.Checkpoint):
            self._let_go(seat, frame)
        seat.channel.send(wire.Done(frame.number))
        if isinstance(frame, wire.Checkpoint | wire.Finish):
            for listener in self.on_further:
                listener(seat.pid)

    def _enter(self, frame: wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail) -> Awaitable[None]:
        jobs = self._jobs
        if isinstance(frame, wire.Checkpoint):
            return jobs.checkpoint(frame.job, frame.fence, frame.body, frame.stage, frame.done, frame.total)
        if isinstance(frame, wire.Finish):
            return jobs.finish(frame.job, frame.fence, frame.result)
        if isinstance(frame, wire.Yield):
            return jobs.give_back(frame.job, frame.fence)
        return jobs.fail(frame.job, frame.fence, frame.code, frame.error, retry=frame.retry, result=frame.result)

    def _let_go(self, seat: WorkerSeat, frame: wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail) -> None:
        held = seat.held.get(frame.job)
        if held is not None and held.fence == frame.fence:
            del seat.held[frame.job]
            seat.busy_at = self._now()
            self.assign(seat.kind)

    def _note(self, seat: WorkerSeat, frame: wire.Progress | wire.Line) -> None:
        held = seat.held.get(frame.job)
        if held is None or held.fence != frame.fence:
            return
        if isinstance(frame, wire.Line):
            self._jobs.tell(frame.job, frame.level, frame.text)
        else:
            self._jobs.progress(frame.job, Progress(frame.fence, frame.stage, frame.done, frame.total))
            if held.asked_at is not None:
                held.asked_at = self._now()  # it is at it

    async def _lose(self, held: Held, reason: str, *, counts: bool) -> None:
        """A lease whose holder is gone. It is tried until it is on record: the job would wait for ever."""
        told = f"the worker process was lost: {reason}"
        await self._insist(lambda: self._jobs.fail(held.id, held.fence, "worker_lost", told, retry=True, counts=counts))

    async def _return(self, held: Held) -> None:
        """A lease that nobody got."""
        await self._insist(lambda: self._jobs.give_back(held.id, held.fence))

    async def _insist(self, enter: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await enter()
                return
            except LeaseLost:
                return
            except Unavailable as error:
                log.warning("jobs.not_written", reason=error.message)
                await asyncio.sleep(error.retry_after_s)

    def _on_wished(self, job: Job) -> None:
        for seat in self._seats:
            held = seat.held.get(job.id)
            if held is not None and held.fence == job.fence:
                held.asked_at = self._now() if job.wish else None
                seat.channel.send(wire.Wished(job.id, job.fence, job.wish))

    def _on_changed(self, old: Job, new: Job) -> None:
        if new.ended or new.checkpoint != old.checkpoint:
            self._company.clear(new.kind, new.id)

    def _stop(self, seat: WorkerSeat) -> None:
        if not seat.stopping:
            seat.stopping = True
            seat.channel.send(wire.Stop())

    def _give_up(self, seat: WorkerSeat, reason: str) -> None:
        log.error("job_worker_given_up", kind=seat.kind, pid=seat.pid, reason=reason)
        for listener in self.on_lost:
            listener(seat.pid)
        seat.channel.close(reason)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
