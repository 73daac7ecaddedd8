"""Jobs from submission to their end, over a real store and a real socket."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec import structs

from pileus.core.errors import NotFound
from pileus.jobs.handler import YIELDED, Context, JobFailed, Kind, Yielded
from pileus.jobs.machine import LeaseLost, NotPossible
from pileus.store.job_table import JobState, Wish
from unit.jobs.house import KIND, SOMEBODY, echo, open_house


async def test_a_job_is_leased_done_and_kept_with_its_result(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house, house.worker(echo):
        job = await house.jobs.submit(KIND, SOMEBODY, b'{"n":1}')
        assert job.state == JobState.QUEUED
        ended = await house.until(job.id, JobState.SUCCEEDED)
        assert ended.result == b'{"n":1}'
        assert ended.fence == 1


async def test_what_is_asked_once_is_one_job_until_that_has_ended(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        first = await house.jobs.submit(KIND, SOMEBODY, b'{"n":1}', once=True)
        assert (await house.jobs.submit(KIND, SOMEBODY, b'{"n":1}', once=True)).id == first.id
        stranger = structs.replace(SOMEBODY, tenant="rain")
        others = [
            await house.jobs.submit(KIND, SOMEBODY, b'{"n":2}', once=True),
            await house.jobs.submit(KIND, stranger, b'{"n":1}', once=True),
            await house.jobs.submit(KIND, SOMEBODY, b'{"n":1}'),
        ]
        assert len({first.id, *(other.id for other in others)}) == 4
        await house.jobs.lease(KIND, 4)
        await house.jobs.cancel(others[0].id, SOMEBODY, "acme")  # it runs, and is about to end
        anew = await house.jobs.submit(KIND, SOMEBODY, b'{"n":2}', once=True)
        assert anew.id != others[0].id
        house.jobs.open()  # those that were leased are queued again
        async with house.worker(echo):
            for job in (first, *others[1:], anew):
                await house.until(job.id, JobState.SUCCEEDED)
        anew = await house.jobs.submit(KIND, SOMEBODY, b'{"n":1}', once=True)
        assert anew.id not in {first.id, *(other.id for other in others)}


async def test_a_job_whose_worker_is_lost_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    seen: list[bytes] = []
    reached = asyncio.Event()

    async def handler(context: Context) -> bytes | Yielded:
        seen.append(context.job.checkpoint)
        if not context.job.checkpoint:
            await context.checkpoint(b"half", "counting", 1, 2)
            reached.set()
            await asyncio.Event().wait()
        return b"{}"

    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        async with house.worker(handler):
            await reached.wait()
        async with house.worker(handler):
            ended = await house.until(job.id, JobState.SUCCEEDED)
    assert seen == [b"", b"half"]
    assert (ended.fence, ended.done, ended.total) == (2, 1, 2)


async def test_what_an_earlier_holder_says_counts_for_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        [first] = await house.jobs.lease(KIND, 1)
        await house.jobs.give_back(job.id, first.fence)
        [second] = await house.jobs.lease(KIND, 1)
        for late in (
            house.jobs.checkpoint(job.id, first.fence, b"late", "", 0, 0),
            house.jobs.finish(job.id, first.fence, b"late"),
            house.jobs.fail(job.id, first.fence, "x", "late", retry=True),
        ):
            with pytest.raises(LeaseLost):
                await late
        await house.jobs.finish(job.id, second.fence, b"{}")


async def test_a_job_that_fails_may_leave_something_which_is_gone_once_it_goes_on(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        raise JobFailed("it is not good enough", code="refused", result=b'{"made": 1}')

    async with open_house(tmp_path) as house:
        async with house.worker(handler):
            job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
            failed = await house.until(job.id, JobState.FAILED)
        again = await house.jobs.resume(job.id, SOMEBODY, "acme")
    assert (failed.error_code, failed.error, failed.result) == ("refused", "it is not good enough", b'{"made": 1}')
    assert (again.state, again.result) == (JobState.QUEUED, b"")


async def test_a_pause_makes_the_handler_give_back_and_a_resume_goes_on(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        if context.job.checkpoint:
            return b"{}"
        assert await context.wished() == Wish.PAUSE
        await context.checkpoint(b"here", "", 0, 0)
        return YIELDED

    async with open_house(tmp_path) as house, house.worker(handler):
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await house.until(job.id, JobState.RUNNING)
        await house.jobs.pause(job.id, SOMEBODY, "acme")
        await house.until(job.id, JobState.PAUSED)
        await house.jobs.resume(job.id, SOMEBODY, "acme")
        await house.until(job.id, JobState.SUCCEEDED)


async def test_a_cancelled_job_of_a_kind_that_closes_gets_to_keep_what_is_finished(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        assert await context.wished() == Wish.CANCEL
        return b'{"kept":1}'

    async with open_house(tmp_path, Kind(name=KIND, closes=True)) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        await house.jobs.cancel(job.id, SOMEBODY, "acme")
        async with house.worker(handler):
            ended = await house.until(job.id, JobState.CANCELLED)
    assert ended.result == b'{"kept":1}'


async def test_a_job_waits_for_what_it_needs_and_fails_with_it(tmp_path: Path) -> None:
    async def handler(context: Context) -> bytes | Yielded:
        if context.job.spec == b"bad":
            raise JobFailed("it cannot be")
        return b"{}"

    async with open_house(tmp_path) as house:
        good, bad = [await house.jobs.submit(KIND, SOMEBODY, spec) for spec in (b"{}", b"bad")]
        after_good = await house.jobs.submit(KIND, SOMEBODY, b"{}", needs=[good.id])
        after_both = await house.jobs.submit(KIND, SOMEBODY, b"{}", needs=[good.id, bad.id])
        assert after_good.state == after_both.state == JobState.WAITING
        async with house.worker(handler):
            await house.until(after_good.id, JobState.SUCCEEDED)
            assert (await house.until(after_both.id, JobState.FAILED)).error_code == "need_failed"


async def test_a_mistake_is_tried_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    tries: list[int] = []

    async def handler(context: Context) -> bytes | Yielded:
        tries.append(context.job.fence)
        if context.job.fence == 1:
            raise ValueError("a mistake")
        raise JobFailed("it cannot be")

    async with open_house(tmp_path) as house, house.worker(handler):
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        ended = await house.until(job.id, JobState.FAILED)
        assert (tries, ended.error) == ([1, 2], "it cannot be")


async def test_a_silent_worker_loses_its_jobs(tmp_path: Path) -> None:
    silent: asyncio.Queue[int] = asyncio.Queue()

    async def handler(context: Context) -> bytes | Yielded:
        await asyncio.Event().wait()
        return b"{}"

    async with open_house(tmp_path, lease_s=0.3) as house:
        house.desk.on_lost.append(silent.put_nowait)
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        async with house.worker(handler, beat_s=100), asyncio.timeout(10):
            assert await silent.get() == os.getpid()
            assert (await house.until(job.id, JobState.QUEUED)).error_code == "worker_lost"


async def test_a_job_that_has_ended_is_forgotten_with_all_that_it_left(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        with pytest.raises(NotPossible):
            await house.jobs.forget(job.id, SOMEBODY, SOMEBODY.tenant)
        async with house.worker(echo):
            await house.until(job.id, JobState.SUCCEEDED)
        assert house.jobs.folder(job.id).exists()
        with pytest.raises(NotFound):
            await house.jobs.forget(job.id, SOMEBODY, "another")
        await house.jobs.forget(job.id, SOMEBODY, SOMEBODY.tenant)
        assert not house.jobs.folder(job.id).exists()
        with pytest.raises(NotFound):
            await house.jobs.get(job.id, None)


async def test_open_jobs_are_counted_for_each_tenant(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ended, *_ = [await house.jobs.submit(KIND, SOMEBODY, b"{}") for _ in range(3)]
        await house.jobs.cancel(ended.id, SOMEBODY, None)
        assert await house.jobs.count_open(KIND, SOMEBODY.tenant) == 2
        assert await house.jobs.count_open(KIND, "another") == 0
