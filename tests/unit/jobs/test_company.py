"""Jobs that are in a process together when it is lost."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from pileus.jobs.company import Company
from pileus.jobs.handler import Context, Kind, Yielded
from pileus.jobs.worker import JobWorker
from pileus.store.job_table import JobState
from unit.jobs.house import KIND, SOMEBODY, open_house, until

PLACES, RETRIES = 8, 1
MOST_LOSSES = 3 + RETRIES + 1  # to be alone among so many, and then to fail


class FastClock:
    """Ten times as fast."""

    def monotonic(self) -> float:
        return 10 * time.monotonic()

    def wall(self) -> float:
        return 1_700_000_000.0 + 10 * time.monotonic()


async def test_a_job_that_ends_its_process_each_time_fails_and_takes_nobody_along(tmp_path: Path) -> None:
    workers: list[JobWorker] = []
    over = asyncio.Event()

    async def handler(context: Context) -> bytes | Yielded:
        if context.job.spec == b"die":
            workers[-1]._channel.close("killed")
        await asyncio.sleep(0.01)
        return b"{}"

    async def keep() -> None:
        while not over.is_set():
            workers.append(JobWorker(KIND, handler, tmp_path / "jobs", 0.05))
            await workers[-1].run(tmp_path / "jobs.sock")

    kind = Kind(name=KIND, places=PLACES, retries=RETRIES)
    async with open_house(tmp_path, kind, lease_s=100.0, clock=FastClock()) as house:
        specs = [b"{}"] * (PLACES // 2) + [b"die"] + [b"{}"] * (PLACES - PLACES // 2 + 3)
        jobs = [await house.jobs.submit(KIND, SOMEBODY, spec) for spec in specs]
        keeping = asyncio.create_task(keep())
        for job in jobs:
            ended = await house.until(job.id, JobState.SUCCEEDED, JobState.FAILED)
            dies = job.spec == b"die"
            assert (ended.state, ended.failures) == (
                (JobState.FAILED, RETRIES + 1) if dies else (JobState.SUCCEEDED, 0)
            )
        assert RETRIES + 1 < len(workers) <= MOST_LOSSES + 1
        assert house.desk._company.suspects(KIND) == []
        over.set()
        workers[-1]._channel.close("over")
        await keeping


async def test_one_that_was_alone_in_its_lost_process_waits_until_it_can_be_alone_and_nobody_gets_in_before_it(
    tmp_path: Path,
) -> None:
    go = asyncio.Event()
    began: list[bytes] = []

    async def handler(context: Context) -> bytes | Yielded:
        began.append(context.job.spec)
        await go.wait()
        return b"{}"

    async with open_house(tmp_path, Kind(name=KIND, places=2)) as house:
        first = await house.jobs.submit(KIND, SOMEBODY, b"first")
        async with house.worker(handler):
            await house.until(first.id, JobState.RUNNING)
        await house.until(first.id, JobState.QUEUED)
        for _ in range(2):
            await house.jobs.submit(KIND, SOMEBODY, b"other")
        async with house.worker(handler):
            await until(lambda: began.count(b"other") == 2)  # a job runs a little before its handler does
            late = await house.jobs.submit(KIND, SOMEBODY, b"late", priority=1)
            began.clear()
            await asyncio.sleep(max((await house.jobs.get(first.id, None)).ready_at - time.time(), 0.0))  # it backs off
            go.set()
            for job in (first, late):
                await house.until(job.id, JobState.SUCCEEDED)
        assert began == [b"first", b"late"]


@pytest.mark.parametrize("places", [1, 2, 3, 64, 256])
def test_whoever_is_lost_again_and_again_is_soon_alone(places: int) -> None:
    draw = random.Random(places)
    company = Company()
    for losses in range(1, 10):
        among = company.most(KIND, ["bad"], places)
        at_work = ["bad", *(f"job_{draw.random()}" for _ in range(among - 1))]
        if company.lost(KIND, at_work):
            assert losses <= places.bit_length()
            return
    raise AssertionError("it is never alone")
