"""A worker process for jobs, as bootstrap puts it together."""

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from pileus.bootstrap import handlers, job_worker
from pileus.bootstrap.handlers import Opened
from pileus.bootstrap.job_workers import JobWorkerSpec, LocalWorkers
from pileus.config.settings import Settings
from pileus.jobs.handler import YIELDED, Context, Yielded
from pileus.jobs.machine import backoff_s
from pileus.store.job_table import JobState
from unit.jobs.house import KIND, SOMEBODY, open_house

DAY_S = 86_400.0


async def test_one_that_loses_only_what_its_handler_stands_on_gives_back_its_jobs_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(context: Context) -> bytes | Yielded:
        await context.wished()
        return YIELDED

    async def open_handler(_kind: str, _settings: Settings, _scheduling: Path, _stack: AsyncExitStack) -> Opened:
        return Opened(handler, lost)

    monkeypatch.setattr(handlers, "open_handler", open_handler)
    async with open_house(tmp_path) as house:
        job = await house.jobs.submit(KIND, SOMEBODY, b"{}")
        spec = JobWorkerSpec(
            kind=KIND, settings={}, jobs=str(house.socket), scheduling="", folder=str(tmp_path / "jobs")
        )
        working = asyncio.create_task(job_worker._work(Settings(), spec))
        await house.until(job.id, JobState.RUNNING)
        lost.set_result("the owner's gone")
        await asyncio.wait_for(working, 10)
        left = await house.jobs.get(job.id, None)
        assert (left.state, left.fence, left.failures) == (JobState.QUEUED, 1, 0)


def test_every_kind_of_job_is_on_the_page_that_says_how_to_follow_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "howto" / "follow-jobs.md").read_text()
    top, _, _ = page.partition("\n## ")
    listed = re.findall(r"^\| `(\w+)` +\|", top, re.MULTILINE)
    assert set(listed) == {kind.name for kind in handlers.kinds(Settings())}


def test_a_delivery_is_tried_for_about_a_day() -> None:
    [kind] = [kind for kind in handlers.kinds(Settings()) if kind.name == "webhook"]
    assert kind.retries is not None
    waits_s = sum(backoff_s(failures) for failures in range(1, kind.retries + 1))
    assert DAY_S <= waits_s <= DAY_S + 600


def test_workers_of_a_server_that_deploys_nothing_can_read_its_settings(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path).model_copy(update={"deployment": ()})
    given = LocalWorkers(settings, tmp_path, tmp_path, tmp_path)._settings
    assert Settings.model_validate_json(msgspec.json.encode(given)).data_dir == tmp_path
