"""The real service over a real store, held step by step to the answers of the pure rules."""

import asyncio
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs
from sqlalchemy import Connection

from pileus.config.settings import Jobs
from pileus.core.errors import PileusError
from pileus.core.records import Principal
from pileus.jobs.service import JobService
from pileus.store.job_table import Job, JobState, JobTable
from pileus.store.sqlite import SqliteStore
from unit.jobs.histories import KINDS, RETRIES, PureOwner

_STATES = tuple(JobState)


class StoredOwner(PureOwner):
    """Does everything twice, and compares: what is raised, what is leased, and every job on record."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        super().__init__()
        self._folder = folder
        self._runner = runner
        self._heard: list[tuple[str, JobState]] = []
        self._open()

    def close(self) -> None:
        self._store.close()

    def submit(self, job: Job) -> None:
        by = Principal("key_1", job.tenant, "user", frozenset(), max_priority=10)
        submit = self._service.submit(
            job.kind, by, job.spec, needs=job.needs, priority=job.priority, due_at=job.due_at, job_id=job.id
        )
        self._both(partial(super().submit, job), submit)

    def lease(self, kind: str, limit: int) -> list[Job]:
        leased: list[Job] = self._both(partial(super().lease, kind, limit), self._service.lease(kind, limit))
        return leased

    def checkpoint(self, job_id: str, fence: int, body: bytes) -> None:
        told = self._service.checkpoint(job_id, fence, body, "", 0, 0)
        self._both(partial(super().checkpoint, job_id, fence, body), told)

    def finish(self, job_id: str, fence: int) -> None:
        self._both(partial(super().finish, job_id, fence), self._service.finish(job_id, fence, b"{}"))

    def give_back(self, job_id: str, fence: int) -> None:
        self._both(partial(super().give_back, job_id, fence), self._service.give_back(job_id, fence))

    def fail(self, job_id: str, fence: int, *, retry: bool, counts: bool = True) -> None:
        told = self._service.fail(job_id, fence, "x", "it failed", retry=retry, counts=counts)
        self._both(partial(super().fail, job_id, fence, retry=retry, counts=counts), told)

    def pause(self, job_id: str) -> None:
        self._both(partial(super().pause, job_id), self._service.pause(job_id, self._by, None), is_same=False)

    def resume(self, job_id: str) -> None:
        self._both(partial(super().resume, job_id), self._service.resume(job_id, self._by, None), is_same=False)

    def cancel(self, job_id: str) -> None:
        self._both(partial(super().cancel, job_id), self._service.cancel(job_id, self._by, None), is_same=False)

    def not_begun(self, kind: str) -> None:
        self._both(partial(super().not_begun, kind), self._service.not_begun(kind, "no worker"))

    def tick(self) -> None:
        self._both(super().tick, self._service.tick())

    def restart(self) -> None:
        super().restart()
        self._store.close()
        self._open()
        self._compare()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._by = Principal("key_1", "acme", "admin", frozenset(), max_priority=10)
        self._store = SqliteStore.open(self._folder)
        settings = Jobs(retries=RETRIES)
        self._service = JobService(self._store, KINDS.values(), settings, self._folder / "jobs", self.clock)
        self._service.on_ended.append(self._on_ended)
        self._service.open()

    def _on_ended(self, _tx: Connection, job: Job) -> None:
        self._heard.append((job.id, job.state))

    def _both(self, pure: "partial[Any] | Any", real: Awaitable[Any], *, is_same: bool = True) -> Any:
        expected, refusal = _outcome(pure)
        found, other = _outcome(lambda: self._runner.run(_wait(real)))
        assert type(refusal) is type(other), f"{refusal!r} is not {other!r}"
        self._compare()
        if refusal is not None:
            raise refusal
        if is_same and expected is not None:
            assert [comparable(job) for job in found] == [comparable(job) for job in expected]
        return expected

    def _compare(self) -> None:
        jobs = self._store.read_blocking(lambda tx: JobTable().in_state(tx, _STATES))
        assert [comparable(job) for job in jobs] == [comparable(job) for job in self.jobs.values()]
        assert sorted(self._heard) == sorted(self.told)


async def _wait(real: Awaitable[Any]) -> Any:
    return await real


def _outcome(act: Any) -> tuple[Any, PileusError | None]:
    try:
        return act(), None
    except PileusError as error:
        return None, error


def comparable(job: Job) -> Job:
    """With times whose sums may differ in the last place."""
    due_at = None if job.due_at is None else round(job.due_at, 3)
    return structs.replace(job, due_at=due_at, ready_at=round(job.ready_at, 3))
