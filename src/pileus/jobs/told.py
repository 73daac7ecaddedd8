"""What running jobs tell: their progress, in memory, and the lines of their logs, which are written soon."""

import asyncio
from collections import defaultdict

from msgspec import Struct, structs
from sqlalchemy import Connection

from pileus.core.clock import Clock
from pileus.core.errors import Unavailable
from pileus.store.job_table import Job, JobLineTable, JobState
from pileus.store.port import Store

LINES_KEPT = 1000  # of each job
LINE_LIMIT = 2000  # characters
_LINES_WAITING = 10_000  # of all jobs, between two writes; what is told beyond is lost


class Progress(Struct, frozen=True):
    """How far a lease is, as last told."""

    fence: int
    stage: str
    done: int
    total: int


class Told:
    """For one event loop. Bounded, whatever is told."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.progress: dict[str, Progress] = {}  # of running jobs, since their last checkpoint
        self.troubles: dict[str, str] = {}  # kinds of which no worker can be started, and why
        self._store = store
        self._clock = clock
        self._table = JobLineTable()
        self._lines: defaultdict[str, list[tuple[float, str, str]]] = defaultdict(list)
        self._count = 0
        self._writing = asyncio.Lock()

    def line(self, job_id: str, level: str, text: str) -> None:
        if self._count < _LINES_WAITING:
            self._count += 1
            self._lines[job_id].append((self._clock.wall(), level, text[:LINE_LIMIT]))

    async def write(self) -> None:
        """Write the lines that were told up to now; all of them are on record when this returns. Raises `Unavailable`;
        then they still wait."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        told, self._lines = self._lines, defaultdict(list)
        self._count = 0
        if not told:
            return

        def work(tx: Connection) -> None:
            for job_id, lines in told.items():
                self._table.insert(tx, job_id, lines, LINES_KEPT)

        try:
            await self._store.write(work)
        except Unavailable:
            for job_id, lines in told.items():
                self._lines[job_id][:0] = lines
                self._count += len(lines)
            raise

    def shown(self, job: Job) -> Job:
        """With the progress that was told since its last checkpoint, or with what keeps it from being begun."""
        trouble = self.troubles.get(job.kind)
        if trouble is not None and job.state == JobState.QUEUED:
            return structs.replace(job, error_code="worker_not_started", error=trouble)
        told = self.progress.get(job.id)
        if told is None or told.fence != job.fence or job.state != JobState.RUNNING:
            return job
        return structs.replace(job, stage=told.stage, done=told.done, total=told.total)
