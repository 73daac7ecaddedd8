"""Races between the desk, its workers, those who ask something of a job, and a store that is away."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.json import decode, encode

from pileus.gateway.forwarding.channel import Channel
from pileus.jobs import wire
from pileus.jobs.handler import MAX_CHECKPOINT_BYTES, MAX_RESULT_BYTES, YIELDED, Context, Kind, Yielded
from pileus.jobs.worker import JobWorker
from pileus.store.job_table import JobState, Wish
from pileus.testing.clock import ManualClock
from unit.jobs.house import KIND, SOMEBODY, House, echo, hang, open_house, until
from unit.store.test_sqlite import Hold


class RawWorker:
    """A worker that says what a test wants."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[wire.FromOwner] = asyncio.Queue()
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.channel: Channel[wire.FromOwner] = Channel(wire.decode_from_owner)
        self.channel.listen(self)

    async def connect(self, house: House) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self.channel, str(house.socket))
        self.channel.send(wire.Hello(KIND, 1))

    async def hear(self) -> wire.FromOwner:
        return await asyncio.wait_for(self.heard.get(), 10)

    async def lease(self) -> wire.Lease:
        frame = await self.hear()
        assert isinstance(frame, wire.Lease)
        return frame

    def on_connected(self) -> None:
        """The test speaks first."""

    def on_frame(self, frame: wire.FromOwner) -> None:
        self.heard.put_nowait(frame)

    def on_gone(self, reason: str) -> None:
        self.gone.set_result(reason)


async def test_a_result_that_is_told_twice_counts_once(tmp_path: Path) -> None:
    ends: list[JobState] = []
    async with open_house(tmp_path) as house:
        house.jobs.on_ended.append(lambda _tx, job: ends.append(job.state))
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        worker = RawWorker()
        await worker.connect(house)
        fence = (await worker.lease()).job.fence
        for number in (1, 2):
            worker.channel.send(wire.Finish(number, job.id, fence, b"%d" % number))
        assert await worker.hear() == wire.Done(1)
        refused = await worker.hear()
        assert isinstance(refused, wire.Refused)
        assert (refused.number, refused.code) == (2, "lease_lost")
        worker.channel.finish()
        assert (await house.jobs.get(job.id, None)).result == b"1"
    assert ends == [JobState.SUCCEEDED]


async def test_a_lease_that_is_written_while_its_worker_goes_is_given_back(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        hold = Hold(house.store)
        ready = asyncio.Event()
        house.desk.on_ready.append(lambda _pid: ready.set())
        worker = RawWorker()
        await worker.connect(house)
        await ready.wait()
        assert KIND in house.desk._assigning  # the lease waits for the store
        worker.channel.close("gone")
        await until(lambda: not house.desk._seats)
        hold.let_go()
        async with house.worker(echo):
            ended = await house.until(job.id, JobState.SUCCEEDED)
        assert (ended.fence, ended.failures) == (2, 0)


async def test_a_worker_that_comes_while_all_is_stopped_gets_no_jobs(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        first = RawWorker()
        await first.connect(house)
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        lease = await first.lease()
        stopping = asyncio.create_task(house.desk.stop(5.0))
        assert await first.hear() == wire.Stop()
        late = RawWorker()
        await late.connect(house)
        assert await late.hear() == wire.Stop()
        first.channel.send(wire.Yield(1, job.id, lease.job.fence))
        assert await first.hear() == wire.Done(1)
        for worker in (late, first):
            worker.channel.finish()
        await stopping
        assert (await house.jobs.get(job.id, None)).state == JobState.QUEUED


@pytest.mark.parametrize("wish", [Wish.PAUSE, Wish.CANCEL])
async def test_a_handler_that_does_not_do_what_is_asked_is_cut_off(tmp_path: Path, wish: Wish) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        if context.job.checkpoint:
            return context.job.checkpoint
        await context.checkpoint(b"half", "", 0, 0)
        return await hang(context)

    async with open_house(tmp_path, Kind(name=KIND, grace_s=0.0)) as house, house.worker(handler):
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await house.until_checkpoint(job.id)
        if wish == Wish.CANCEL:
            await house.jobs.cancel(job.id, SOMEBODY, "acme")
            assert (await house.until(job.id, JobState.CANCELLED)).error_code == "cut_off"
        else:
            await house.jobs.pause(job.id, SOMEBODY, "acme")
            await house.until(job.id, JobState.PAUSED)
            await house.jobs.resume(job.id, SOMEBODY, "acme")
            assert (await house.until(job.id, JobState.SUCCEEDED)).result == b"half"
        assert "cut off" in (await house.told(job.id))[0]


async def test_a_process_whose_handler_cannot_even_be_cut_off_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.jobs.desk._LAST_GRACE_S", 0.1)
    let_go, lost = asyncio.Event(), asyncio.Event()

    async def handler(_context: Context) -> bytes | Yielded:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return b"{}"

    async with open_house(tmp_path, Kind(name=KIND, grace_s=0.0)) as house:
        house.desk.on_lost.append(lambda _pid: lost.set())
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        async with house.worker(handler):
            try:
                await house.until(job.id, JobState.RUNNING)
                await house.jobs.pause(job.id, SOMEBODY, "acme")
                await asyncio.wait_for(lost.wait(), 10)
                assert (await house.until(job.id, JobState.PAUSED)).error_code == "worker_lost"
            finally:
                let_go.set()


async def test_a_wish_that_is_taken_back_cuts_nobody_off(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        worker = RawWorker()
        await worker.connect(house)
        fence = (await worker.lease()).job.fence
        await house.jobs.pause(job.id, SOMEBODY, "acme")
        assert await worker.hear() == wire.Wished(job.id, fence, Wish.PAUSE)
        [seat] = house.desk._seats
        assert seat.held[job.id].asked_at is not None
        await house.jobs.resume(job.id, SOMEBODY, "acme")
        assert await worker.hear() == wire.Wished(job.id, fence, Wish.NONE)
        assert seat.held[job.id].asked_at is None
        worker.channel.finish()


async def test_an_owner_that_was_away_itself_takes_nobody_for_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.jobs.desk._TICK_S", 0.01)
    clock = ManualClock()
    lost: list[int] = []
    async with open_house(tmp_path, clock=clock) as house, house.worker(hang, beat_s=100):
        house.desk.on_lost.append(lost.append)
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await house.until(job.id, JobState.RUNNING)
        [seat] = house.desk._seats
        clock.advance(100)
        await until(lambda: seat.heard_at == clock.monotonic())
        assert lost == []

        def time_passes() -> bool:
            clock.advance(0.1)
            return bool(lost)

        await until(time_passes)  # now it is there, and the worker says nothing
        assert lost == [seat.pid]


async def test_nothing_is_lost_while_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step of a job: lease, checkpoint, result, and a worker that is lost."""
    monkeypatch.setattr("pileus.jobs.worker._TRY_AGAIN_S", 0.02)
    steps: list[str] = []

    async def handler(context: Context) -> bytes | Yielded:
        if context.job.fence == 1:
            return await hang(context)
        house.moods.is_away = True
        asyncio.get_running_loop().create_task(back(house, "checkpoint"))
        await context.checkpoint(b"half", "", 0, 0)
        house.moods.is_away = True
        asyncio.get_running_loop().create_task(back(house, "finish"))
        return b"{}"

    async def back(house: House, step: str) -> None:
        await house.moods.refused.wait()
        house.moods.refused.clear()
        house.moods.is_away = False
        steps.append(step)

    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        house.moods.is_away = True
        async with house.worker(handler):
            await back(house, "lease")
            await house.until(job.id, JobState.RUNNING)
            house.moods.is_away = True
        await back(house, "loss")
        async with house.worker(handler):
            ended = await house.until(job.id, JobState.SUCCEEDED)
        assert ended.checkpoint == b"half"
        assert steps == ["lease", "loss", "checkpoint", "finish"]


async def test_a_folder_that_cannot_be_made_fails_the_job_and_not_the_worker(tmp_path: Path) -> None:
    async with open_house(tmp_path, Kind(name=KIND, retries=0)) as house, house.worker(echo) as worker:
        (tmp_path / "jobs").write_text("in the way")
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        failed = await house.until(job.id, JobState.FAILED)
        assert "NotADirectoryError" in failed.error
        assert not worker.lost.done()


async def test_a_worker_whose_owner_is_gone_cancels_its_handlers(tmp_path: Path) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(context: Context) -> bytes | Yielded:
        began.set()
        try:
            return await hang(context)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with open_house(tmp_path) as house:
        await house.jobs.submit(KIND, SOMEBODY, b"{}")
        worker = JobWorker(KIND, handler, tmp_path / "jobs", 0.05)
        running = asyncio.create_task(worker.run(house.socket))
        await began.wait()
        house.desk._seats[0].channel.close("the owner goes")
        await asyncio.wait_for(running, 10)
        assert cancelled.is_set()


async def test_a_worker_that_is_told_to_stop_gives_back_what_it_has(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        await context.wished()
        return YIELDED

    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        worker = JobWorker(KIND, handler, tmp_path / "jobs", 0.05)
        running = asyncio.create_task(worker.run(house.socket))
        await house.until(job.id, JobState.RUNNING)
        await house.jobs.cancel(job.id, SOMEBODY, "acme")
        worker.stop()
        await asyncio.wait_for(running, 10)
        left = await house.jobs.get(job.id, None)
        assert (left.state, left.wish, left.failures, left.fence) == (JobState.QUEUED, Wish.CANCEL, 0, 1)


async def test_a_result_of_the_largest_size_is_kept_and_a_larger_one_fails_its_job_alone(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        if context.job.spec == b"hang":
            return await hang(context)
        if context.job.spec == b"checkpoint":
            await context.checkpoint(bytes(MAX_CHECKPOINT_BYTES + 1), "", 0, 0)
        return bytes(int(context.job.spec))

    async with open_house(tmp_path) as house, house.worker(handler) as worker:
        innocent = await house.jobs.submit(KIND, SOMEBODY, b"hang")
        largest = await house.jobs.submit(KIND, SOMEBODY, b"%d" % MAX_RESULT_BYTES)
        larger = await house.jobs.submit(KIND, SOMEBODY, b"%d" % (MAX_RESULT_BYTES + 1))
        too_much = await house.jobs.submit(KIND, SOMEBODY, b"checkpoint")
        assert len((await house.until(largest.id, JobState.SUCCEEDED)).result) == MAX_RESULT_BYTES
        for job in (larger, too_much):
            failed = await house.until(job.id, JobState.FAILED)
            assert (failed.error_code, failed.failures) == ("too_large", 1)
        assert str(MAX_RESULT_BYTES + 1) in (await house.jobs.get(larger.id, None)).error
        held = await house.jobs.get(innocent.id, None)
        assert (held.state, held.fence, worker.lost.done()) == (JobState.RUNNING, 1, False)


async def test_a_worker_gets_no_more_large_jobs_than_it_reads(tmp_path: Path) -> None:
    spec = bytes(4 << 20)
    async with open_house(tmp_path, Kind(name=KIND, places=64)) as house:
        ready = asyncio.Event()
        house.desk.on_ready.append(lambda _pid: ready.set())
        worker = RawWorker()
        await worker.connect(house)
        await ready.wait()
        assert worker.channel._transport is not None
        worker.channel._transport.pause_reading()
        jobs = [await house.jobs.submit(KIND, SOMEBODY, spec) for _ in range(6)]
        [seat] = house.desk._seats
        await until(lambda: not seat.channel._flows.is_set())
        for _ in range(3):
            house.desk.assign(KIND)
            await house.store.write(lambda tx: None)
        assert 1 <= len(seat.held) <= 2
        worker.channel._transport.resume_reading()
        assert [(await worker.lease()).job.id for _ in jobs] == [job.id for job in jobs]
        worker.channel.finish()


async def test_large_jobs_are_leased_by_their_bytes(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        jobs = [await house.jobs.submit(KIND, SOMEBODY, bytes(size)) for size in (30, 10, 10, 10)]
        leased = [[job.id for job in await house.jobs.lease(KIND, 4, most_bytes=20)] for _ in range(3)]
        assert leased == [[jobs[0].id], [jobs[1].id, jobs[2].id], [jobs[3].id]]


async def test_a_worker_that_leaves_with_a_lease_on_its_way_gives_it_back(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        await context.wished()
        return YIELDED

    async with open_house(tmp_path) as house:
        ready = asyncio.Event()
        house.desk.on_ready.append(lambda _pid: ready.set())
        worker = JobWorker(KIND, handler, tmp_path / "jobs", 0.05)
        running = asyncio.create_task(worker.run(house.socket))
        await ready.wait()
        assert worker._channel._transport is not None
        worker._channel._transport.pause_reading()  # type: ignore[attr-defined]
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await until(lambda: bool(house.desk._seats[0].held))
        worker.stop()
        worker._channel._transport.resume_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(running, 10)
        left = await house.jobs.get(job.id, None)
        assert (left.state, left.failures, left.fence) == (JobState.QUEUED, 0, 1)


async def test_a_jobs_folder_is_durable_before_its_handler_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    async def handler(context: Context) -> bytes | Yielded:
        assert context.folder.is_dir()
        return encode([path for path in (str(tmp_path), str(tmp_path / "jobs")) if path in synced])

    async with open_house(tmp_path) as house, house.worker(handler):
        monkeypatch.setattr(os, "fsync", fsync)
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        ended = await house.until(job.id, JobState.SUCCEEDED)
        assert decode(ended.result) == [str(tmp_path), str(tmp_path / "jobs")]
