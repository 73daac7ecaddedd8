"""Real worker processes: killed, stopped, lame, and orphaned."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from pileus.jobs.handler import Kind
from pileus.jobs.processes import WorkerProcesses
from pileus.store.job_table import JobState
from unit.jobs.house import KIND, SOMEBODY, open_house, until
from unit.jobs.processes import ENVIRONMENT, Handle, open_processes


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_job_whose_process_is_killed_or_stopped_goes_on_in_the_next(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    async with open_house(tmp_path, lease_s=1.0) as house, open_processes(house) as starter:
        job = await house.jobs.submit(KIND, SOMEBODY, b"hang")
        await house.until_checkpoint(job.id)
        starter.started[0].signal(signal_number)
        ended = await house.until(job.id, JobState.SUCCEEDED)
        assert (ended.result, ended.fence, len(starter.started)) == (b"half", 2, 2)
        assert await starter.started[0].wait() == -signal.SIGKILL
        assert "the worker process was lost" in (await house.told(job.id))[0]


async def test_a_job_that_kills_its_process_each_time_ends_and_says_so(tmp_path: Path) -> None:
    async with open_house(tmp_path, Kind(name=KIND, retries=1)) as house, open_processes(house) as starter:
        job = await house.jobs.submit(KIND, SOMEBODY, b"die")
        failed = await house.until(job.id, JobState.FAILED)
        assert (failed.error_code, failed.failures, len(starter.started)) == ("worker_lost", 2, 2)
        assert "the worker process was lost" in failed.error
        assert await house.told(job.id) == [failed.error] * 2


async def test_a_kind_whose_process_ends_at_its_start_is_tried_more_and_more_seldom(tmp_path: Path) -> None:
    kind = Kind(name="lame", closes=True, retries=2)
    async with open_house(tmp_path, kind) as house, open_processes(house) as starter:
        job = await house.jobs.submit("lame", SOMEBODY, b"{}")
        ending = await house.jobs.submit("lame", SOMEBODY, b"{}")
        await house.jobs.cancel(ending.id, SOMEBODY, "acme")
        assert (await house.until(ending.id, JobState.CANCELLED)).failures == 3
        shown = await house.jobs.get(job.id, None)
        assert (shown.state, shown.error_code) == (JobState.QUEUED, "worker_not_started")
        assert "status 7" in shown.error
        assert 3 <= len(starter.started) <= 4


async def test_a_machine_that_gives_no_process_is_said_so(tmp_path: Path) -> None:
    class Poor:
        async def start(self, _kind: str) -> Handle:
            raise OSError(11, "Resource temporarily unavailable")

    async with open_house(tmp_path) as house:
        processes = WorkerProcesses(house.jobs, house.desk, Poor())
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await until(lambda: KIND in house.jobs._told.troubles)
        shown = await house.jobs.get(job.id, None)
        assert shown.error == "no worker process can be started: Resource temporarily unavailable"
        await processes.stop(0.0)


async def test_a_process_that_takes_no_jobs_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileus.jobs.processes.START_S", 0.0)
    async with open_house(tmp_path) as house, open_processes(house) as starter:
        await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await until(lambda: bool(starter.started))
        async with asyncio.timeout(10):
            assert await starter.started[0].wait() == -signal.SIGKILL


async def test_a_stop_while_a_process_starts_ends_it(tmp_path: Path) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    class Slow:
        async def start(self, _kind: str) -> Handle:
            begun.set()
            await go.wait()
            return Handle(await asyncio.create_subprocess_exec("sleep", "100"))

    async with open_house(tmp_path) as house:
        processes = WorkerProcesses(house.jobs, house.desk, Slow())
        await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await begun.wait()
        stopping = asyncio.create_task(processes.stop(1.0))
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait_for(stopping, 10)


async def test_a_worker_whose_owner_is_killed_ends_by_itself(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("process_owner.py"))
    owner = await asyncio.create_subprocess_exec(
        sys.executable, script, str(tmp_path), stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    assert owner.stdout is not None
    worker = 0
    async for line in owner.stdout:
        if line.strip().isdigit():
            worker = int(line)
            break
    descriptor = os.pidfd_open(worker)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    try:
        assert not ended.is_set()
        owner.kill()
        await owner.wait()
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize(("is_useful", "wait_s"), [(True, 0.2), (False, 0.8)])
async def test_after_a_worker_that_got_a_job_further_the_next_is_not_made_to_wait(
    tmp_path: Path, is_useful: bool, wait_s: float
) -> None:
    class Short:
        """A worker that ends as soon as somebody waits for it."""

        pid = 1

        async def wait(self) -> int:
            if is_useful:
                for listener in house.desk.on_further:
                    listener(self.pid)
            return -signal.SIGKILL

        def kill(self) -> None: ...

    class Starter:
        async def start(self, _kind: str) -> Short:
            return Short()

    async with open_house(tmp_path) as house:
        processes = WorkerProcesses(house.jobs, house.desk, Starter())
        for _ in range(3):
            processes._look(KIND)
            await processes._keeping[KIND]
        assert processes._waits[KIND] == pytest.approx(wait_s)
        await processes.stop(0.0)
