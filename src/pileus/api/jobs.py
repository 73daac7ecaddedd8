"""`/v1/jobs`: work that goes on behind the requests, and what people may ask of it.

Everybody sees the jobs of the own tenant, and for everybody else's there is nothing there. Who watches the server sees
all of them; only administrators act on those of another tenant. What a job is about (its spec, its checkpoint and its
result) is never told here: those hold people's texts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType, ValidationError, convert
from msgspec.json import encode
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest, PermissionDenied
from pileus.core.records import Principal
from pileus.jobs import machine
from pileus.jobs.machine import NotPossible
from pileus.jobs.metrics import MetricPoint
from pileus.security.permission import Permission
from pileus.store.job_table import Job, JobState, Wish

_JOBS, _MOST_JOBS = 50, 200
_LINES, _MOST_LINES = 100, 1000
_POINTS, _MOST_POINTS = 500, 5000
_LAST_SEQUENCE = 2**63 - 1

Act = Literal["pause", "resume", "cancel"]


class JobError(Struct, frozen=True):
    """Why it failed, or what its last failure was."""

    code: str
    message: str


class JobView(Struct, frozen=True, kw_only=True):
    """A job as its people see it. Times are Unix times."""

    id: str
    kind: str
    tenant: str
    state: JobState
    wish: Wish  # what was asked of it and has not come about yet
    acts: list[Act]  # what the caller may ask of it as it is
    priority: int  # higher goes first
    needs: list[str]  # jobs that must have succeeded before it begins
    stage: str
    done: int  # of `total`, in the stage's unit
    total: int  # 0 where nobody knows
    fraction: float | UnsetType = UNSET  # from 0 to 1, where the total is known
    failures: int  # since it last got further
    error: JobError | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    due_at: float | None  # then it expires
    ready_at: float  # not begun before, after a failure; else 0
    sequence: int  # the order of submission


class JobList(Struct, frozen=True):
    """The latest first."""

    data: list[JobView]
    has_more: bool  # of them before the last one's `sequence`


class LogLine(Struct, frozen=True):
    sequence: int
    at: float
    level: str
    text: str


class LineList(Struct, frozen=True):
    """Oldest first."""

    data: list[LogLine]


class MetricList(Struct, frozen=True):
    """In the order of steps."""

    data: list[MetricPoint]


async def list_jobs(call: Call) -> ASGIApp:
    """The latest jobs, of one `kind` or in one `state` where that is given; `before` a job's sequence the earlier."""
    limit = call.whole_number("limit", _JOBS, 1, _MOST_JOBS)
    jobs = await call.owned.jobs.latest(
        _seen(call.principal),
        kind=call.query_params.get("kind"),
        state=_state(call),
        before=call.whole_number("before", 0, 0, _LAST_SEQUENCE) or None,
        limit=limit + 1,
        results=False,
    )
    return JsonAnswer(JobList([_view(job, call.principal) for job in jobs[:limit]], len(jobs) > limit))


class JobRequest(WireForm):
    """Work of a kind that people submit. What `spec` may hold, its kind says: see the guides."""

    kind: str
    spec: dict[str, Any]
    priority: int = 0
    needs: Annotated[list[str], Field(max_length=16, description="Jobs that must have succeeded before.")] = Field(
        default_factory=list
    )
    once: bool = Field(
        default=False, description="If your tenant has a job of this kind and `spec` that has not ended, answer that."
    )


async def submit_job(call: Call) -> ASGIApp:
    """Have work done behind the requests. On record when this is answered."""
    form = await call.read(JobRequest)
    kind = call.owned.jobs.kinds.get(form.kind)
    if kind is None or kind.spec is None:
        known = sorted(each.name for each in call.owned.jobs.kinds.values() if each.spec is not None)
        raise InvalidRequest(f"`kind` should be one of {', '.join(known)}", param="kind")
    try:
        spec = convert(form.spec, kind.spec)
    except ValidationError as error:
        raise InvalidRequest(f"`spec`: {error}", param="spec") from None
    job = await call.owned.jobs.submit(
        kind.name, call.principal, encode(spec), needs=form.needs, priority=form.priority, once=form.once
    )
    return JsonAnswer(_view(job, call.principal))


async def show_job(call: Call) -> ASGIApp:
    """One job, and how far it is."""
    return JsonAnswer(_view(await _job(call), call.principal))


async def job_logs(call: Call) -> ASGIApp:
    """What the job told: the first lines `after` a line's sequence, or else the last ones."""
    job = await _job(call)
    after = call.whole_number("after", 0, 0, _LAST_SEQUENCE) if "after" in call.query_params else None
    lines = await call.owned.jobs.lines(job.id, after, call.whole_number("limit", _LINES, 1, _MOST_LINES))
    return JsonAnswer(LineList([LogLine(line.sequence, line.at, line.level, line.text) for line in lines]))


async def job_metrics(call: Call) -> ASGIApp:
    """The figures that the job told as it went on, thinned out to at most `limit` steps."""
    job = await _job(call)
    most = call.whole_number("limit", _POINTS, 1, _MOST_POINTS)
    return JsonAnswer(MetricList(await asyncio.to_thread(call.owned.jobs.points, job.id, most)))


async def pause_job(call: Call) -> ASGIApp:
    """Let it rest. One that runs does so at its next checkpoint."""
    job, who = await _own(call), call.principal
    return JsonAnswer(_view(await call.owned.jobs.pause(job.id, who, job.tenant), who))


async def resume_job(call: Call) -> ASGIApp:
    """Go on with a job that was paused, or that failed, from its last checkpoint."""
    job, who = await _own(call), call.principal
    return JsonAnswer(_view(await call.owned.jobs.resume(job.id, who, job.tenant), who))


async def cancel_job(call: Call) -> ASGIApp:
    """End it; what it has finished is kept."""
    job, who = await _own(call), call.principal
    return JsonAnswer(_view(await call.owned.jobs.cancel(job.id, who, job.tenant), who))


async def _job(call: Call) -> Job:
    return await call.owned.jobs.get(call.path_params["id"], _seen(call.principal))


async def _own(call: Call) -> Job:
    """The job, if the caller may act on it. Raises `NotFound` where it is not even to be seen."""
    job = await _job(call)
    if not _acts_on(call.principal, job):
        raise PermissionDenied(f"The job {job.id} is another tenant's: only administrators act on it.")
    return job


def _seen(who: Principal) -> str | None:
    """The tenant whose jobs they see; None for all."""
    return None if Permission.STATUS_READ in who.permissions else who.tenant


def _acts_on(who: Principal, job: Job) -> bool:
    own = job.tenant == who.tenant or Permission.KEYS_MANAGE in who.permissions
    return own and Permission.JOBS_WRITE in who.permissions


def _state(call: Call) -> JobState | None:
    given = call.query_params.get("state")
    if given is None:
        return None
    try:
        return JobState(given)
    except ValueError:
        raise InvalidRequest(f"`state` should be one of {', '.join(JobState)}", param="state") from None


def _view(job: Job, who: Principal) -> JobView:
    return JobView(
        id=job.id,
        kind=job.kind,
        tenant=job.tenant,
        state=job.state,
        wish=job.wish,
        acts=_possible(job) if _acts_on(who, job) else [],
        priority=job.priority,
        needs=list(job.needs),
        stage=job.stage,
        done=job.done,
        total=job.total,
        fraction=min(job.done / job.total, 1.0) if job.total else UNSET,
        failures=job.failures,
        error=JobError(job.error_code, job.error) if job.error_code or job.error else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        due_at=job.due_at,
        ready_at=job.ready_at,
        sequence=job.sequence,
    )


def _possible(job: Job) -> list[Act]:
    """What the rules of jobs allow of it as it is."""
    return [act for act, change in _TRIALS.items() if _allows(change, job)]


def _allows(change: Callable[[Job], Job], job: Job) -> bool:
    try:
        return change(job) != job
    except NotPossible:
        return False


_TRIALS: Final[dict[Act, Callable[[Job], Job]]] = {
    "pause": machine.paused,
    "resume": partial(machine.resumed, needs_met=True),
    "cancel": partial(machine.cancelled, now=0.0, closes=False),
}


def _get(path: str, handler: Any, gives: type[Any], *query: str) -> GuardedRoute:
    return GuardedRoute("GET", path, handler, permission=Permission.JOBS_READ, gives=gives, query=query, tag="Jobs")


def _post(path: str, handler: Any) -> GuardedRoute:
    return GuardedRoute("POST", path, handler, permission=Permission.JOBS_WRITE, gives=JobView, tag="Jobs")


_PATH = "/v1/jobs"
_ONE = _PATH + "/{id}"
ROUTES = (
    GuardedRoute(
        "POST",
        _PATH,
        submit_job,
        permission=Permission.MODELS_MANAGE,
        takes=JobRequest,
        gives=JobView,
        tag="Jobs",
    ),
    _get(_PATH, list_jobs, JobList, "kind", "state", "limit", "before"),
    _get(_ONE, show_job, JobView),
    _get(_ONE + "/logs", job_logs, LineList, "after", "limit"),
    _get(_ONE + "/metrics", job_metrics, MetricList, "limit"),
    _post(_ONE + "/pause", pause_job),
    _post(_ONE + "/resume", resume_job),
    _post(_ONE + "/cancel", cancel_job),
)
