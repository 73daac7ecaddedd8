"""`/v1/background`: requests that are answered while nobody waits, and what became of them.

Whoever sends a request with `background: true`, or with the header `Prefer: respond-async` (RFC 7240), gets 202 and an
id, and asks with it for the answer later. It is a job: it survives whatever ends in between.
"""

from typing import Any, Final, Literal

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import decode
from starlette.types import ASGIApp

from pileus.api.errors import ErrorBody, ErrorDetail, answer
from pileus.api.forward import Forward
from pileus.api.openai.options import SharedOptions
from pileus.api.route import Call, GuardedRoute, Header
from pileus.api.services import Services
from pileus.api.stream import JsonAnswer
from pileus.api.wishes import Wish
from pileus.background.records import BackgroundSpec, Refusal, decode_spec
from pileus.core.errors import DeadlineExceeded, InvalidRequest, ServiceError
from pileus.security.permission import Permission
from pileus.store.job_table import Job, JobState

_PATH: Final = "/v1/background"
_ONE: Final = _PATH + "/{id}"
_ASYNC: Final = b"respond-async"
_LISTED, _MOST_LISTED = 20, 100

BACKGROUND_HEADERS: Final = (
    Header(
        "prefer",
        {"type": "string"},
        "With `respond-async` the same as `background: true`; other preferences are not heeded.",
    ),
)

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
_STATUS: Final[dict[JobState, Status]] = {
    JobState.WAITING: "queued",
    JobState.QUEUED: "queued",
    JobState.PAUSED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.EXPIRED: "failed",
    JobState.CANCELLED: "cancelled",
}


class BackgroundRequest(Struct, frozen=True, kw_only=True):
    """A request, and its answer once there is one. Times are Unix times."""

    id: str
    object: Literal["background.request"] = "background.request"
    status: Status
    endpoint: str
    model: str
    request_id: str
    created_at: int
    completed_at: int | None
    response: Raw | UnsetType | None = UNSET  # what the endpoint answers; lists leave it out
    error: ErrorDetail | None


class BackgroundList(Struct, frozen=True, kw_only=True):
    """The latest first, without their answers."""

    object: Literal["list"] = "list"
    data: list[BackgroundRequest]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BackgroundDeleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["background.request"] = "background.request"
    deleted: Literal[True] = True


# --- for the routes that make models speak ----------------------------------------------------------------------------


def wants_background(call: Call, form: SharedOptions) -> bool:
    """Whether nobody waits for the answer."""
    return bool(form.background) or (bool(call.head.prefer) and _prefers_async(call.head.prefer))


async def promise(call: Call, form: SharedOptions, wish: Wish) -> ASGIApp:
    """Have it answered later. A process that does not own the jobs hands it on to the one that does."""
    if form.stream:
        raise InvalidRequest("`stream: true` is not possible in the background: nobody listens", param="stream")
    if not isinstance(call.services, Services):
        forward: Forward = call.scope["app"].state.forward
        return forward.with_body(call.content)
    call.services.directory.find(form.model, call.principal.tenant)
    call.services.ring.check(call.principal.key_id)  # it may have been closed while the body came in
    spec = BackgroundSpec(
        endpoint=call.scope["path"],
        model=form.model,
        request_id=call.head.request_id,
        traceparent=call.head.traceparent,
        lane=wish.lane,
        priority=wish.priority,
    )
    job = await call.owned.background.submit(call.principal, spec, call.content, wish.deadline_s)
    headers = [(b"location", f"{_PATH}/{job.id}".encode())]
    if _prefers_async(call.head.prefer):
        headers.append((b"preference-applied", _ASYNC))
    return JsonAnswer(_view(job), headers, 202)


def _prefers_async(prefer: bytes) -> bool:
    return any(each.partition(b";")[0].strip().lower() == _ASYNC for each in prefer.split(b","))


# --- what became of them ----------------------------------------------------------------------------------------------


async def show(call: Call) -> ASGIApp:
    """One request; with its `response` once it is `completed`, or with the `error` for which it has `failed`."""
    return JsonAnswer(_view(await call.owned.background.get(call.path_params["id"], call.principal.tenant)))


async def list_all(call: Call) -> ASGIApp:
    """This tenant's requests, the latest first; `after` is the id of the last one that is known."""
    limit = call.whole_number("limit", _LISTED, 1, _MOST_LISTED)
    jobs, more = await call.owned.background.latest(call.principal.tenant, call.query_params.get("after"), limit)
    data = [_view(job, whole=False) for job in jobs]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return JsonAnswer(BackgroundList(data=data, first_id=first, last_id=last, has_more=more))


async def cancel(call: Call) -> ASGIApp:
    """End it; there will be no answer."""
    return JsonAnswer(_view(await call.owned.background.cancel(call.path_params["id"], call.principal)))


async def delete(call: Call) -> ASGIApp:
    """Forget one that has ended, with its answer."""
    job_id = call.path_params["id"]
    await call.owned.background.forget(job_id, call.principal)
    return JsonAnswer(BackgroundDeleted(id=job_id))


def _view(job: Job, *, whole: bool = True) -> BackgroundRequest:
    spec = decode_spec(job.spec)
    answered = job.state is JobState.SUCCEEDED
    return BackgroundRequest(
        id=job.id,
        status=_STATUS[job.state],
        endpoint=spec.endpoint,
        model=spec.model,
        request_id=spec.request_id,
        created_at=int(job.created_at),
        completed_at=None if job.finished_at is None else int(job.finished_at),
        response=UNSET if not whole else Raw(job.result) if answered else None,
        error=_error(job),
    )


def _error(job: Job) -> ErrorDetail | None:
    """Why there is no answer, as the endpoint would have said it."""
    if job.state is JobState.EXPIRED:
        return answer(DeadlineExceeded())[1].error
    if job.state is not JobState.FAILED:
        return None
    refusal = decode(job.checkpoint, type=Refusal) if job.checkpoint else None
    if refusal is not None and refusal.code == job.error_code:
        return decode(refusal.body, type=ErrorBody).error
    return answer(ServiceError())[1].error  # its worker failed, again and again


def _route(method: str, path: str, handler: Any, gives: type[Any], *query: str) -> GuardedRoute:
    return GuardedRoute(
        method, path, handler, permission=Permission.GENERATE, gives=gives, query=query, tag="Background"
    )


ROUTES = (
    _route("GET", _PATH, list_all, BackgroundList, "after", "limit"),
    _route("GET", _ONE, show, BackgroundRequest),
    _route("DELETE", _ONE, delete, BackgroundDeleted),
    _route("POST", _ONE + "/cancel", cancel, BackgroundRequest),
)
