"""FAULTS 25, for jobs: the clock is set while they wait and run."""

from pathlib import Path

import pytest

from pileus.store.job_table import JobState
from unit.jobs.house import KIND, SOMEBODY
from unit.jobs.keeper import Keeper

HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.mark.fault(25, "jobs; the clock set by hours and days", "deadlines are as far ahead as they were")
@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S, 10 * DAY_S, -10 * DAY_S])
async def test_25_a_job_expires_after_its_time_whatever_the_clock_says(tmp_path: Path, by_s: float) -> None:
    keeper = Keeper(tmp_path)
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", due_at=keeper.clock.wall() + 600)
    keeper.clock.advance(300)
    keeper.clock.set_wall(keeper.clock.wall() + by_s)
    later = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", due_at=keeper.clock.wall() + 600)
    await keeper.jobs.tick()
    assert (await keeper.jobs.get(job.id, None)).due_at == pytest.approx(keeper.clock.wall() + 300)
    states = []
    for _ in range(3):
        states.append([(await keeper.jobs.get(each.id, None)).state for each in (job, later)])
        keeper.clock.advance(301)
        await keeper.jobs.tick()
    queued, expired = JobState.QUEUED, JobState.EXPIRED
    assert states == [[queued, queued], [expired, queued], [expired, expired]]
    keeper.store.close()


@pytest.mark.fault(25, "jobs; the clock set back, also between two starts", "what backs off is not stranded")
@pytest.mark.parametrize("is_down", [False, True])
async def test_25_a_job_that_backs_off_is_tried_again_after_the_clock_was_set_back(
    tmp_path: Path, is_down: bool
) -> None:
    keeper = Keeper(tmp_path)
    await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    [job] = await keeper.jobs.lease(KIND, 1)
    await keeper.jobs.fail(job.id, job.fence, "x", "it failed", retry=True)
    keeper.clock.set_wall(keeper.clock.wall() - DAY_S)
    jobs = keeper.service() if is_down else keeper.jobs
    await jobs.tick()
    keeper.clock.advance(2)
    [again] = await jobs.lease(KIND, 1)
    assert again.fence == job.fence + 1
    keeper.store.close()


@pytest.mark.fault(25, "jobs; the clock set while one is at work", "its lease goes on, and nobody else gets it")
@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S])
async def test_25_a_lease_goes_on_through_a_clock_that_is_set(tmp_path: Path, by_s: float) -> None:
    keeper = Keeper(tmp_path)
    await keeper.jobs.submit(KIND, SOMEBODY, b"{}", due_at=keeper.clock.wall() + 600)
    [job] = await keeper.jobs.lease(KIND, 1)
    keeper.clock.set_wall(keeper.clock.wall() + by_s)
    await keeper.jobs.tick()
    assert await keeper.jobs.lease(KIND, 1) == []
    await keeper.jobs.checkpoint(job.id, job.fence, b"half", "", 0, 0)
    await keeper.jobs.finish(job.id, job.fence, b"{}")
    assert (await keeper.jobs.get(job.id, None)).state == JobState.SUCCEEDED
    keeper.store.close()
