"""A worker process: takes leases of one kind of job, runs the handler, and tells the owner how far it is."""

import asyncio
import os
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from pileus.core.errors import PileusError, Unavailable, revive
from pileus.gateway.forwarding.channel import Channel
from pileus.jobs import wire
from pileus.jobs.handler import MAX_CHECKPOINT_BYTES, MAX_RESULT_BYTES, Handler, JobFailed, TooLarge, Yielded
from pileus.jobs.machine import LeaseLost
from pileus.observability.events import get_log
from pileus.store.durable import make_folder
from pileus.store.job_table import Job, Wish

_TRY_AGAIN_S = 1.0
_LAST_GRACE_S = 5.0  # for handlers, once the owner is gone

log = get_log(__name__)


class JobWorker:
    """For one event loop. `lost` is done, with the reason, when the owner is gone; then this process must end."""

    def __init__(self, kind: str, handler: Handler, folder: Path, beat_s: float) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._kind = kind
        self._handler = handler
        self._folder = folder
        self._beat_s = beat_s
        self._channel: Channel[wire.FromOwner] = Channel(wire.decode_from_owner, wire.MAX_FRAME_BYTES)
        self._channel.listen(self)
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._leases: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_leaving = False
        self._stopping = asyncio.Event()  # nothing more comes

    async def run(self, path: Path) -> None:
        """Work until the owner says stop, or is gone. Raises `OSError` where nobody listens."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._channel, str(path))
        self._channel.send(wire.Hello(self._kind, os.getpid()))
        if self._is_leaving:
            self._channel.send(wire.Leave())
        beating = asyncio.create_task(self._beat())
        stopping = asyncio.create_task(self._stop())
        ends: set[asyncio.Future[Any]] = {self.lost, stopping}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        ending = {beating, stopping, *self._tasks}
        for task in ending:
            task.cancel()
        await asyncio.wait(ending, timeout=_LAST_GRACE_S)
        self._channel.finish()

    def stop(self) -> None:
        """Give back what is held, and end."""
        if not self._is_leaving:
            self._is_leaving = True
            self._channel.send(wire.Leave())
        for lease in self._leases.values():
            lease.ask(Wish.PAUSE)

    # --- what the owner says ------------------------------------------------------------------------------------------

    def on_connected(self) -> None:
        """`run` speaks first."""

    def on_frame(self, frame: wire.FromOwner) -> None:
        if isinstance(frame, wire.Lease):
            self._begin(frame.job)
        elif isinstance(frame, wire.Wished):
            lease = self._leases.get(frame.job)
            if lease is not None and lease.job.fence == frame.fence and not self._is_leaving:
                lease.ask(frame.wish)
        elif isinstance(frame, wire.Drop):
            lease = self._leases.get(frame.job)
            if lease is not None and lease.job.fence == frame.fence:
                lease.drop()
        elif isinstance(frame, wire.Stop):
            self.stop()
            self._stopping.set()
        else:
            self._on_answer(frame)

    def on_gone(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LeaseLost(reason))

    def _on_answer(self, frame: wire.Done | wire.Refused) -> None:
        answer = self._answers.pop(frame.number, None)
        if answer is None or answer.done():
            return
        if isinstance(frame, wire.Done):
            answer.set_result(None)
        else:
            lost = frame.code == LeaseLost.code
            answer.set_exception(LeaseLost(frame.message) if lost else revive(frame.code, frame.message))

    # --- for leases ---------------------------------------------------------------------------------------------------

    def send(self, frame: wire.Progress | wire.Line) -> None:
        self._channel.send(frame)

    async def enter(self, frame: wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail) -> None:
        """Have the owner put it on record; as long as the store is away, again and again. Raises `LeaseLost`, or
        `TooLarge` for what would not fit into a frame."""
        _check_size(frame)
        while True:
            await self._channel.flows()
            number = next(self._numbers)
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._answers[number] = answer
            self._channel.send(msgspec.structs.replace(frame, number=number))
            if self.lost.done():
                raise LeaseLost(self.lost.result())
            try:
                await answer
                return
            except Unavailable as error:
                log.warning("job_not_recorded", job=frame.job, reason=error.message)
                await asyncio.sleep(_TRY_AGAIN_S)
            finally:
                self._answers.pop(number, None)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            self._channel.send(wire.Beat())

    async def _stop(self) -> None:
        """Return once it was told to stop and all was given back."""
        await self._stopping.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, job: Job) -> None:
        lease = self._leases[job.id] = Lease(self, job, self._folder / job.id)
        if self._is_leaving:
            lease.ask(Wish.PAUSE)
        task = asyncio.create_task(self._work(lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, lease: "Lease") -> None:
        job = lease.job
        try:
            frame = await self._run(lease)
            try:
                await self.enter(frame)
            except LeaseLost:
                raise
            except PileusError as error:  # its result is not taken
                await self.enter(
                    wire.Fail(0, job.id, job.fence, error.code, error.message, retry=not isinstance(error, JobFailed))
                )
        except LeaseLost:
            log.warning("job_lease_lost", job=job.id, fence=job.fence)
        finally:
            if self._leases.get(lease.job.id) is lease:
                del self._leases[lease.job.id]

    async def _run(self, lease: "Lease") -> wire.Finish | wire.Yield | wire.Fail:
        """The handler's end, whatever it is, as a frame."""
        job = lease.job
        try:
            await asyncio.to_thread(make_folder, lease.folder)
            outcome = await lease.run(self._handler)
        except LeaseLost:
            raise
        except asyncio.CancelledError:
            if not lease.is_dropped:
                raise
            return _dropped(lease)
        except JobFailed as error:
            return wire.Fail(0, job.id, job.fence, error.code, error.message, retry=False, result=error.result)
        except PileusError as error:
            log.warning("job_not_through", job=job.id, code=error.code, reason=error.message)
            return wire.Fail(0, job.id, job.fence, error.code, error.message, retry=True)
        except Exception as error:  # the process's edge: any handler's mistake is this job's, and is tried again
            log.error("job_crashed", job=job.id, exc_info=error)
            return wire.Fail(0, job.id, job.fence, "crashed", f"{type(error).__name__}: {error}", retry=True)
        if isinstance(outcome, Yielded):
            return wire.Yield(0, job.id, job.fence)
        return wire.Finish(0, job.id, job.fence, outcome)


class Lease:
    """Meets `handler.Context`."""

    def __init__(self, worker: JobWorker, job: Job, folder: Path) -> None:
        self.job = job
        self.folder = folder
        self._worker = worker
        self.is_dropped = False
        self._wish = job.wish
        self._handling: asyncio.Task[bytes | Yielded] | None = None
        self._asked = asyncio.Event()
        if job.wish:
            self._asked.set()

    @property
    def wish(self) -> Wish:
        return self._wish

    def ask(self, wish: Wish) -> None:
        """Somebody asks that of it."""
        self._wish = wish
        if wish:
            self._asked.set()
        else:
            self._asked.clear()

    async def run(self, handler: Handler) -> bytes | Yielded:
        """What the handler gives. Raises what it raises."""
        self._handling = asyncio.ensure_future(handler(self))
        return await self._handling

    def drop(self) -> None:
        """Cut the handler off. No-op where nothing is asked of it any more."""
        if self._wish and self._handling is not None:
            self.is_dropped = self._handling.cancel()

    async def wished(self) -> Wish:
        await self._asked.wait()
        return self._wish

    async def checkpoint(self, body: bytes, stage: str, done: int, total: int) -> None:
        await self._worker.enter(wire.Checkpoint(0, self.job.id, self.job.fence, body, stage, done, total))

    def progress(self, stage: str, done: int, total: int) -> None:
        self._worker.send(wire.Progress(self.job.id, self.job.fence, stage, done, total))

    def log(self, text: str, level: str = "info") -> None:
        self._worker.send(wire.Line(self.job.id, self.job.fence, level, text))


def _check_size(frame: wire.Checkpoint | wire.Finish | wire.Yield | wire.Fail) -> None:
    if isinstance(frame, wire.Finish | wire.Fail) and len(frame.result) > MAX_RESULT_BYTES:
        raise TooLarge(f"the result has {len(frame.result)} bytes; at most {MAX_RESULT_BYTES} may be")
    if isinstance(frame, wire.Checkpoint) and len(frame.body) > MAX_CHECKPOINT_BYTES:
        raise TooLarge(f"the checkpoint has {len(frame.body)} bytes; at most {MAX_CHECKPOINT_BYTES} may be")


def _dropped(lease: Lease) -> wire.Yield | wire.Fail:
    """The end of a handler that did not do what was asked of it: a pause goes on from the last checkpoint, and what is
    to close is tried again, for what is finished would be lost."""
    job = lease.job
    if lease.wish == Wish.PAUSE:
        return wire.Yield(0, job.id, job.fence)
    return wire.Fail(0, job.id, job.fence, "cut_off", "it did not do in time what was asked of it", retry=True)
