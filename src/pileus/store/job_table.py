"""The statements of jobs and their logs. Every method runs inside a transaction that the caller opened."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct, structs
from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, update

from pileus.store import schema


class JobState(StrEnum):
    WAITING = "waiting"  # for the jobs that it needs
    QUEUED = "queued"  # for a worker
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


class Wish(StrEnum):
    """What was asked of a job that is at work, or has to be at work once more to end well."""

    NONE = ""
    PAUSE = "pause"
    CANCEL = "cancel"
    EXPIRE = "expire"  # its time is over


class Job(Struct, frozen=True, kw_only=True):
    """A job as the store keeps it. Times are by the wall clock, in seconds since 1970 UTC."""

    id: str
    kind: str
    tenant: str
    key_id: str  # who submitted it, and pays
    spec: bytes  # JSON, of the kind's own type; never changes
    needs: tuple[str, ...] = ()  # jobs that must have succeeded before it begins
    blobs: tuple[str, ...] = ()  # contents that must stay until it has ended
    priority: int = 0  # higher goes first
    created_at: float
    due_at: float | None = None  # then it expires
    state: JobState = JobState.QUEUED
    wish: Wish = Wish.NONE
    fence: int = 0  # rises with every lease; what an earlier holder says counts for nothing
    failures: int = 0  # since it last got further
    ready_at: float = 0.0  # not to be leased before; set after a failure
    checkpoint: bytes = b""  # the kind's own; where the next lease goes on
    stage: str = ""
    done: int = 0  # of `total`, in the stage's unit
    total: int = 0  # 0 where nobody knows
    result: bytes = b""  # JSON, of the kind's own type
    error_code: str = ""
    error: str = ""
    started_at: float | None = None  # first lease
    finished_at: float | None = None
    sequence: int = 0  # the order of submission; set by the store

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class JobLine(Struct, frozen=True):
    """Something that a job told."""

    sequence: int
    at: float
    level: str
    text: str


class JobTable:
    """Jobs by id, and in the order of their submission."""

    def insert(self, tx: Connection, job: Job) -> Job:
        """As it is stored: with its sequence number."""
        values = _values(job)
        del values["sequence"]
        sequence = tx.execute(insert(schema.job).values(values)).inserted_primary_key
        assert sequence is not None
        return structs.replace(job, sequence=sequence[0])

    def get(self, tx: Connection, job_id: str) -> Job | None:
        table = schema.job
        row = tx.execute(select(table).where(table.c.id == job_id)).mappings().first()
        return None if row is None else _job(row)

    def put(self, tx: Connection, job: Job) -> None:
        """Write what may have changed."""
        values = {name: value for name, value in _values(job).items() if name not in _FIXED}
        table = schema.job
        tx.execute(update(table).where(table.c.id == job.id).values(values))

    def next(self, tx: Connection, kind: str, now: float, latest_ready: float, limit: int) -> list[Job]:
        """Queued jobs of a kind whose turn it is, the most urgent first. One whose `ready_at` lies after
        `latest_ready` cannot be meant: the clock was set back."""
        table = schema.job
        is_ready = (table.c.ready_at <= now) | (table.c.ready_at > latest_ready)
        query = (
            select(table)
            .where(table.c.state == JobState.QUEUED, table.c.kind == kind, is_ready)
            .order_by(table.c.priority.desc(), table.c.sequence)
            .limit(limit)
        )
        return _jobs(tx, query)

    def in_state(self, tx: Connection, states: Sequence[JobState]) -> list[Job]:
        """By submission."""
        table = schema.job
        return _jobs(tx, select(table).where(table.c.state.in_(states)).order_by(table.c.sequence))

    def due(self, tx: Connection, now: float) -> list[Job]:
        """Jobs whose time is over and who have not been told."""
        table = schema.job
        query = select(table).where(
            table.c.due_at <= now,
            table.c.state.not_in(ENDED),
            table.c.wish.not_in((Wish.CANCEL, Wish.EXPIRE)),
        )
        return _jobs(tx, query)

    def latest(
        self,
        tx: Connection,
        *,
        tenant: str | None = None,
        kind: str | None = None,
        state: JobState | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """The latest first, from the first before that sequence number on."""
        table = schema.job
        query = select(table).order_by(table.c.sequence.desc()).limit(limit)
        for column, value in ((table.c.tenant, tenant), (table.c.kind, kind), (table.c.state, state)):
            query = query if value is None else query.where(column == value)
        return _jobs(tx, query if before is None else query.where(table.c.sequence < before))

    def count(self, tx: Connection, kind: str, states: Sequence[JobState], tenant: str | None = None) -> int:
        """Of all tenants, or of one."""
        table = schema.job
        query = select(func.count()).where(table.c.kind == kind, table.c.state.in_(states))
        return tx.execute(query if tenant is None else query.where(table.c.tenant == tenant)).scalar_one()

    def ended_before(self, tx: Connection, kind: str, at: float, limit: int) -> list[str]:
        """Ids of jobs of a kind that ended before then."""
        table = schema.job
        query = select(table.c.id).where(table.c.kind == kind, table.c.state.in_(ENDED), table.c.finished_at < at)
        return [*tx.execute(query.limit(limit)).scalars()]

    def forget(self, tx: Connection, ids: Sequence[str]) -> None:
        """Delete them, with their logs."""
        tx.execute(delete(schema.job_line).where(schema.job_line.c.job_id.in_(ids)))
        tx.execute(delete(schema.job).where(schema.job.c.id.in_(ids)))


class JobLineTable:
    """What jobs told, bounded for each."""

    def insert(self, tx: Connection, job_id: str, lines: Sequence[tuple[float, str, str]], keep: int) -> None:
        """Lines as (at, level, text); of all of the job's lines the last `keep` stay."""
        table = schema.job_line
        tx.execute(
            insert(table),
            [{"job_id": job_id, "at": at, "level": level, "text": text} for at, level, text in lines],
        )
        newest = select(table.c.sequence).where(table.c.job_id == job_id).order_by(table.c.sequence.desc())
        first_kept = newest.limit(1).offset(keep - 1).scalar_subquery()
        tx.execute(delete(table).where(table.c.job_id == job_id, table.c.sequence < first_kept))

    def after(self, tx: Connection, job_id: str, sequence: int, limit: int) -> list[JobLine]:
        """Oldest first, from the first after that sequence number on."""
        table = schema.job_line
        query = select(table.c.sequence, table.c.at, table.c.level, table.c.text)
        query = query.where(table.c.job_id == job_id, table.c.sequence > sequence).order_by(table.c.sequence)
        return [JobLine(*row) for row in tx.execute(query.limit(limit))]

    def latest(self, tx: Connection, job_id: str, limit: int) -> list[JobLine]:
        """The last lines, oldest first."""
        table = schema.job_line
        query = select(table.c.sequence, table.c.at, table.c.level, table.c.text)
        query = query.where(table.c.job_id == job_id).order_by(table.c.sequence.desc()).limit(limit)
        return [JobLine(*row) for row in tx.execute(query)][::-1]


_FIXED = ("sequence", "id", "kind", "tenant", "key_id", "spec", "needs", "priority", "created_at", "due_at")


def _values(job: Job) -> dict[str, object]:
    return structs.asdict(job) | {"needs": ",".join(job.needs), "blobs": ",".join(job.blobs)}


def _jobs(tx: Connection, query: "Select[tuple[object, ...]]") -> list[Job]:
    return [_job(row) for row in tx.execute(query).mappings()]


def _job(row: RowMapping) -> Job:
    lists = {name: tuple(filter(None, row[name].split(","))) for name in ("needs", "blobs")}
    return Job(**{**row, **lists, "state": JobState(row["state"]), "wish": Wish(row["wish"])})
