"""The statements of jobs and their logs. Every method runs inside a transaction that the caller opened."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from msgspec import Struct, structs
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

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


class Among(Struct, frozen=True):
    """Only these jobs, or only others."""

    ids: Sequence[str]
    these: bool = True


class _Head(NamedTuple):
    """A job that goes before all others of its tenant and priority."""

    priority: int
    tenant: str
    sequence: int


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

    def next(
        self,
        tx: Connection,
        kind: str,
        now: float,
        latest_ready: float,
        limit: int,
        most_bytes: int,
        among: Among | None = None,
    ) -> list[Job]:
        """Queued jobs of a kind whose turn it is, the most urgent first, and among equally urgent ones those of the
        tenant that would have the fewest at work. One whose `ready_at` lies after `latest_ready` cannot be meant: the
        clock was set back. No more than have so many bytes together, but for the first."""
        table = schema.job
        ready = _ready(kind, now, latest_ready, among)
        heads = self._heads(tx, *ready)
        at_work = self._at_work(tx, kind)
        chosen: list[int] = []
        while heads and len(chosen) < limit:
            head = min(heads, key=lambda head: (-head.priority, at_work[head.tenant], head.sequence))
            heads.remove(head)
            chosen.append(head.sequence)
            at_work[head.tenant] += 1
            same = table.c.priority == head.priority, table.c.tenant == head.tenant
            heads += self._heads(tx, *ready, *same, table.c.sequence > head.sequence)
        chosen = self._within(tx, chosen, most_bytes)
        found = {job.sequence: job for job in _jobs(tx, select(table).where(table.c.sequence.in_(chosen)))}
        return [found[sequence] for sequence in chosen]

    def has_ready(self, tx: Connection, kind: str, now: float, latest_ready: float, among: Among | None = None) -> bool:
        """Whether `next` would find one."""
        query = select(schema.job.c.sequence).where(*_ready(kind, now, latest_ready, among)).limit(1)
        return tx.execute(query).first() is not None

    def closing(self, tx: Connection, kind: str) -> list[str]:
        """Ids of queued jobs of a kind that wait for a worker only to end."""
        table = schema.job
        asked = table.c.wish.in_((Wish.CANCEL, Wish.EXPIRE))
        query = select(table.c.id).where(table.c.state == JobState.QUEUED, table.c.kind == kind, asked)
        return [*tx.execute(query).scalars()]

    def in_state(self, tx: Connection, states: Sequence[JobState], kind: str | None = None) -> list[Job]:
        """By submission."""
        table = schema.job
        query = select(table).where(table.c.state.in_(states)).order_by(table.c.sequence)
        return _jobs(tx, query if kind is None else query.where(table.c.kind == kind))

    def like(self, tx: Connection, job: Job) -> Job | None:
        """The latest of its tenant and kind that is asked the very same, and has neither ended nor is about to."""
        table = schema.job
        query = select(table).where(
            table.c.tenant == job.tenant,
            table.c.kind == job.kind,
            table.c.spec == job.spec,
            table.c.state.not_in(ENDED),
            table.c.wish.not_in((Wish.CANCEL, Wish.EXPIRE)),
        )
        return next(iter(_jobs(tx, query.order_by(table.c.sequence.desc()).limit(1))), None)

    def needing(self, tx: Connection, job_id: str) -> list[Job]:
        """Jobs that may yet begin and need that one, by submission."""
        table = schema.job
        begins = table.c.state.in_((JobState.WAITING, JobState.PAUSED))
        query = select(table).where(begins, table.c.needs.contains(job_id)).order_by(table.c.sequence)
        return [job for job in _jobs(tx, query) if job_id in job.needs]

    def due(self, tx: Connection, now: float, limit: int) -> list[str]:
        """Ids of jobs whose time is over and who have not been told."""
        table = schema.job
        query = select(table.c.id).where(
            table.c.due_at <= now,
            table.c.finished_at.is_(None),
            table.c.wish.not_in((Wish.CANCEL, Wish.EXPIRE)),
        )
        return [*tx.execute(query.limit(limit)).scalars()]

    def shift(self, tx: Connection, by_s: float) -> None:
        """The clock was set by so much: what lies ahead of a job is as far ahead as it was."""
        table = schema.job
        times = {"due_at": table.c.due_at + by_s, "ready_at": table.c.ready_at + by_s}
        tx.execute(update(table).where(table.c.finished_at.is_(None)).values(times))

    def latest(
        self,
        tx: Connection,
        *,
        tenant: str | None = None,
        kind: str | None = None,
        state: JobState | None = None,
        before: int | None = None,
        limit: int = 100,
        results: bool = True,
    ) -> list[Job]:
        """The latest first, from the first before that sequence number on. Results may be large: leave them out where
        nobody looks at them."""
        table = schema.job
        columns = [column for column in table.columns if results or column.name != "result"]
        query = select(*columns).order_by(table.c.sequence.desc()).limit(limit)
        for column, value in ((table.c.tenant, tenant), (table.c.kind, kind), (table.c.state, state)):
            query = query if value is None else query.where(column == value)
        return _jobs(tx, query if before is None else query.where(table.c.sequence < before))

    def count(self, tx: Connection, kind: str, states: Sequence[JobState], tenant: str) -> int:
        table = schema.job
        query = select(func.count()).where(table.c.kind == kind, table.c.state.in_(states), table.c.tenant == tenant)
        return tx.execute(query).scalar_one()

    def ended_before(self, tx: Connection, kind: str, at: float, limit: int) -> list[str]:
        """Ids of jobs of a kind that ended before then, but for those that another needs which may yet begin."""
        table, other = schema.job, schema.job.alias()
        begins = other.c.state.not_in((JobState.SUCCEEDED, JobState.CANCELLED, JobState.EXPIRED))
        is_needed = exists().where(begins, other.c.needs != "", other.c.needs.contains(table.c.id))
        query = select(table.c.id).where(table.c.kind == kind, table.c.state.in_(ENDED), table.c.finished_at < at)
        return [*tx.execute(query.where(~is_needed).limit(limit)).scalars()]

    def ids(self, tx: Connection, kind: str | None = None, states: Sequence[JobState] = (*JobState,)) -> set[str]:
        """Of all jobs, or of those of a kind or in some states."""
        table = schema.job
        query = select(table.c.id).where(table.c.state.in_(states))
        return {*tx.execute(query if kind is None else query.where(table.c.kind == kind)).scalars()}

    def forget(self, tx: Connection, ids: Sequence[str]) -> None:
        """Delete them, with their logs."""
        tx.execute(delete(schema.job_line).where(schema.job_line.c.job_id.in_(ids)))
        tx.execute(delete(schema.job).where(schema.job.c.id.in_(ids)))

    def _heads(self, tx: Connection, *which: ColumnElement[bool]) -> list["_Head"]:
        """The first of each tenant and priority."""
        table = schema.job
        query = select(table.c.priority, table.c.tenant, func.min(table.c.sequence)).where(*which)
        return [_Head(*row) for row in tx.execute(query.group_by(table.c.priority, table.c.tenant))]

    def _within(self, tx: Connection, sequences: Sequence[int], most_bytes: int) -> list[int]:
        """The first of them, and as many that follow as have no more bytes together."""
        table = schema.job
        size = func.length(table.c.spec) + func.length(table.c.checkpoint)
        query = select(table.c.sequence, size).where(table.c.sequence.in_(sequences))
        sizes = {row.sequence: row[1] for row in tx.execute(query)}
        sums = accumulate(sizes[sequence] for sequence in sequences)
        fitting = [sequence for sequence, so_far in zip(sequences, sums, strict=True) if so_far <= most_bytes]
        return fitting or list(sequences[:1])

    def _at_work(self, tx: Connection, kind: str) -> Counter[str]:
        """How many each tenant has."""
        table = schema.job
        query = select(table.c.tenant, func.count()).where(table.c.state == JobState.RUNNING, table.c.kind == kind)
        return Counter({row.tenant: row[1] for row in tx.execute(query.group_by(table.c.tenant))})


class JobLineTable:
    """What jobs told, bounded for each."""

    def insert(self, tx: Connection, job_id: str, lines: Sequence[tuple[float, str, str]], keep: int) -> None:
        """Lines as (at, level, text); of all of the job's lines the last `keep` stay. No-op for a job that is
        forgotten."""
        table = schema.job_line
        if tx.execute(select(schema.job.c.sequence).where(schema.job.c.id == job_id)).first() is None:
            return
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


def _ready(kind: str, now: float, latest_ready: float, among: Among | None) -> tuple[ColumnElement[bool], ...]:
    table = schema.job
    in_time = (table.c.ready_at <= now) | (table.c.ready_at > latest_ready)
    ready = table.c.state == JobState.QUEUED, table.c.kind == kind, in_time
    if among is None:
        return ready
    return *ready, table.c.id.in_(among.ids) if among.these else table.c.id.not_in(among.ids)


def _values(job: Job) -> dict[str, object]:
    return structs.asdict(job) | {"needs": ",".join(job.needs), "blobs": ",".join(job.blobs)}


def _jobs(tx: Connection, query: "Select[tuple[object, ...]]") -> list[Job]:
    return [_job(row) for row in tx.execute(query).mappings()]


def _job(row: RowMapping) -> Job:
    lists = {name: tuple(filter(None, row[name].split(","))) for name in ("needs", "blobs")}
    return Job(**{**row, **lists, "state": JobState(row["state"]), "wish": Wish(row["wish"])})
