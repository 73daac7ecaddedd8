"""What the owner does with many jobs, with old ones, and with a store that is away."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from pileus.core.errors import Unavailable
from pileus.core.records import Principal
from pileus.jobs.handler import Kind
from pileus.jobs.machine import NotPossible
from pileus.jobs.told import LINE_LIMIT, LINES_KEPT
from pileus.store.job_table import Job, JobState
from unit.jobs.house import KIND, SOMEBODY
from unit.jobs.keeper import Keeper

OTHER = Principal("key_2", "beta", "user", frozenset(), max_priority=10)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.store.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """All that are sent to any database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_one_tenants_many_jobs_do_not_make_anothers_first_wait_for_all_of_them(keeper: Keeper) -> None:
    for _ in range(50):
        await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    late = await keeper.jobs.submit(KIND, OTHER, b"{}")
    first = await keeper.jobs.lease(KIND, 2)
    assert [job.tenant for job in first] == ["acme", "beta"]
    await keeper.jobs.finish(late.id, 1, b"{}")
    await keeper.jobs.submit(KIND, OTHER, b"{}")
    assert [job.tenant for job in await keeper.jobs.lease(KIND, 3)] == ["beta", "acme", "acme"]


async def test_what_is_more_urgent_goes_first_whoever_has_more_at_work(keeper: Keeper) -> None:
    for principal, priority in ((SOMEBODY, 0), (OTHER, 0), (SOMEBODY, 3), (SOMEBODY, 3)):
        await keeper.jobs.submit(KIND, principal, b"{}", priority=priority)
    leased = await keeper.jobs.lease(KIND, 4)
    assert [(job.tenant, job.priority) for job in leased] == [("acme", 3), ("acme", 3), ("beta", 0), ("acme", 0)]


async def test_a_look_that_finds_nothing_to_do_writes_nothing(keeper: Keeper) -> None:
    done = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", due_at=keeper.clock.wall() + 5)
    await keeper.finish()
    keeper.clock.advance(10)
    await keeper.jobs.tick()
    with statements() as sent:
        await keeper.jobs.tick()
    assert [statement.split()[0] for statement in sent] == ["BEGIN", "SELECT", "SELECT"]
    assert (await keeper.jobs.get(done.id, None)).state == JobState.SUCCEEDED


async def test_a_long_chain_of_needs_falls_with_its_first(keeper: Keeper) -> None:
    chain = [await keeper.jobs.submit(KIND, SOMEBODY, b"{}")]
    for _ in range(400):
        chain.append(await keeper.jobs.submit(KIND, SOMEBODY, b"{}", needs=[chain[-1].id]))
    await keeper.jobs.cancel(chain[0].id, SOMEBODY, "acme")
    assert (await keeper.jobs.get(chain[-1].id, None)).error_code == "need_failed"


async def test_what_ended_long_ago_is_forgotten_with_its_log_and_folder(keeper: Keeper) -> None:
    old = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    keeper.jobs.folder(old.id).mkdir(parents=True)
    await keeper.finish()
    keeper.jobs.tell(old.id, "info", "a line")
    keeper.clock.advance(29 * 86_400)
    young = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    await keeper.finish()
    await keeper.jobs.tick()
    assert len(await keeper.jobs.latest(None)) == 2
    keeper.clock.advance(2 * 86_400)
    await keeper.jobs.tick()
    assert [job.id for job in await keeper.jobs.latest(None)] == [young.id]
    assert not keeper.jobs.folder(old.id).exists()
    assert await keeper.jobs.lines(old.id, None, 10) == []


async def test_a_job_that_another_may_yet_need_is_not_forgotten(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, Kind(name="short", keep_s=60.0), Kind(name=KIND))
    needs = [(await keeper.jobs.submit("short", SOMEBODY, b"{}")).id for _ in range(2)]
    waiting = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", needs=needs)
    await keeper.finish("short")
    keeper.clock.advance(3600)
    await keeper.jobs.tick()
    await keeper.finish("short")
    assert (await keeper.jobs.get(waiting.id, None)).state == JobState.QUEUED
    await keeper.finish()
    keeper.clock.advance(3600)
    await keeper.jobs.tick()
    assert [job.id for job in await keeper.jobs.latest(None)] == [waiting.id]
    keeper.store.close()


async def test_a_job_that_another_needs_is_not_deleted_on_demand_either(keeper: Keeper) -> None:
    needs = [(await keeper.jobs.submit(KIND, SOMEBODY, b"{}")).id for _ in range(2)]
    waiting = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", needs=needs)
    await keeper.finish()
    with pytest.raises(NotPossible, match=waiting.id):
        await keeper.jobs.forget(needs[0], SOMEBODY, "acme")
    await keeper.finish()
    await keeper.jobs.forget(needs[0], SOMEBODY, "acme")
    [begun] = await keeper.jobs.lease(KIND, 1)
    await keeper.jobs.fail(begun.id, begun.fence, "x", "it failed", retry=False)
    assert (await keeper.jobs.resume(begun.id, SOMEBODY, "acme")).state == JobState.QUEUED


async def test_a_folder_whose_job_is_forgotten_goes_at_the_next_start(keeper: Keeper) -> None:
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    for job_id in (job.id, "job_gone"):
        keeper.jobs.folder(job_id).mkdir(parents=True)
    keeper.service()
    assert [folder.name for folder in keeper.folder.iterdir()] == [job.id]


async def test_of_a_folder_stays_what_lasts_once_the_job_has_ended_for_good(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, Kind(name=KIND, lasting=frozenset({"figures"})))

    def fill(job: Job) -> Path:
        folder = keeper.jobs.folder(job.id)
        (folder / "checkpoints").mkdir(parents=True)
        for name in ("figures", "examples", "checkpoints/1"):
            (folder / name).write_text("x")
        return folder

    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    done, failed, cancelled = [await keeper.jobs.submit(KIND, SOMEBODY, b"{}") for _ in range(3)]
    folders = [fill(job) for job in (done, failed, cancelled)]
    await keeper.jobs.tick()
    assert names(folders[0]) == ["checkpoints", "examples", "figures"]
    await keeper.finish()
    [leased] = await keeper.jobs.lease(KIND, 1)
    await keeper.jobs.fail(leased.id, leased.fence, "x", "it failed", retry=False)  # and may be resumed
    await keeper.jobs.cancel(cancelled.id, SOMEBODY, "acme")
    again = keeper.service()  # the owner dies, and the next one takes over
    await again.tick()
    assert [names(folder) for folder in folders] == [["figures"], ["checkpoints", "examples", "figures"], ["figures"]]
    fill_again = keeper.jobs.folder(done.id) / "examples"
    fill_again.write_text("x")
    await keeper.jobs.tick()
    assert not fill_again.exists()
    keeper.store.close()


async def test_a_log_is_bounded_in_lines_and_length(keeper: Keeper) -> None:
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    for number in range(LINES_KEPT + 5):
        keeper.jobs.tell(job.id, "info", f"{number}" + "x" * LINE_LIMIT)
    await keeper.jobs.write_lines()
    lines = await keeper.jobs.lines(job.id, None, 2 * LINES_KEPT)
    assert len(lines) == LINES_KEPT
    assert lines[-1].text == (f"{LINES_KEPT + 4}" + "x" * LINE_LIMIT)[:LINE_LIMIT]


async def test_what_was_told_a_moment_ago_is_there_for_who_asks(keeper: Keeper) -> None:
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    keeper.jobs.tell(job.id, "info", "its last words")
    await keeper.finish()
    assert [line.text for line in await keeper.jobs.lines(job.id, None, 1)] == ["its last words"]


async def test_who_asks_for_lines_waits_for_those_that_are_being_written(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    begun, goes_on, write = asyncio.Event(), asyncio.Event(), keeper.moods.write

    async def slow(work: Any) -> Any:
        begun.set()
        await goes_on.wait()
        return await write(work)

    monkeypatch.setattr(keeper.moods, "write", slow)
    keeper.jobs.tell(job.id, "info", "a line")
    writing = asyncio.ensure_future(keeper.jobs.write_lines())
    await begun.wait()
    reading = asyncio.ensure_future(keeper.jobs.lines(job.id, None, 1))
    assert not (await asyncio.wait({reading}, timeout=0.2))[0]
    goes_on.set()
    await writing
    assert [line.text for line in await reading] == ["a line"]


async def test_lines_wait_for_a_store_that_is_away_but_not_without_bound(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileus.jobs.told._LINES_WAITING", 3)
    job = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    keeper.moods.is_away = True
    for _ in range(3):
        keeper.jobs.tell(job.id, "info", "a")
        keeper.jobs.tell(job.id, "info", "b")
        with pytest.raises(Unavailable):
            await keeper.jobs.write_lines()
    keeper.moods.is_away = False
    await keeper.jobs.write_lines()
    assert [line.text for line in await keeper.jobs.lines(job.id, None, 10)] == ["a", "b", "a"]


async def test_a_kind_that_cannot_account_for_an_end_keeps_nobody_elses_from_theirs(tmp_path: Path) -> None:
    def stumble(_tx: Connection, _job: Job) -> None:
        raise ValueError("no account")

    keeper = Keeper(tmp_path, Kind(name="broken", on_ended=stumble), Kind(name=KIND))
    due_at = keeper.clock.wall() + 10
    broken = await keeper.jobs.submit("broken", SOMEBODY, b"{}", due_at=due_at)
    queued = await keeper.jobs.submit("broken", SOMEBODY, b"{}", due_at=due_at)
    whole = await keeper.jobs.submit(KIND, SOMEBODY, b"{}", due_at=due_at)
    [held] = await keeper.jobs.lease("broken", 1)
    keeper.clock.advance(20)
    await keeper.jobs.tick()
    assert (await keeper.jobs.get(whole.id, None)).state == JobState.EXPIRED
    assert (await keeper.jobs.get(queued.id, None)).state == JobState.QUEUED
    with pytest.raises(ValueError, match="no account"):
        await keeper.jobs.finish(broken.id, held.fence, b"{}")
    await keeper.jobs.fail(broken.id, held.fence, "x", "it fails", retry=False)
    after = await keeper.jobs.get(broken.id, None)
    assert (after.state, after.failures) == (JobState.QUEUED, 1)
    assert "no account" in (await _told(keeper, broken.id))[-1]
    keeper.store.close()


async def test_a_kind_whose_worker_cannot_start_says_so_and_still_lets_its_jobs_end(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, Kind(name=KIND, closes=True, retries=1))
    waiting = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    ending = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    await keeper.jobs.cancel(ending.id, SOMEBODY, "acme")
    for state in (JobState.QUEUED, JobState.CANCELLED):
        await keeper.jobs.not_begun(KIND, "no engine")
        assert (await keeper.jobs.get(ending.id, None)).state == state
    shown = await keeper.jobs.get(waiting.id, None)
    assert (shown.state, shown.error_code, shown.error) == (JobState.QUEUED, "worker_not_started", "no engine")
    another = await keeper.jobs.submit(KIND, SOMEBODY, b"{}")
    await keeper.jobs.lease(KIND, 1)
    assert (await keeper.jobs.get(another.id, None)).error == ""
    keeper.store.close()


async def _told(keeper: Keeper, job_id: str) -> list[str]:
    await keeper.jobs.write_lines()
    return [line.text for line in await keeper.jobs.lines(job_id, None, 10)]
