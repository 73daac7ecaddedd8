"""`/v1/batches`: many requests as one file."""

from typing import Annotated, Final, Literal

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.batch.records import LineProblem, TokenSums
from pileus.batch.service import BatchWish
from pileus.batch.view import BatchStatus, BatchView
from pileus.security.permission import Permission

_DEFAULT_LIMIT: Final = 20
_MOST: Final = 100

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class OutputExpiresAfter(WireForm):
    """How long the files stay that the batch leaves."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000, description="From the file's creation.")]


class BatchRequest(WireForm):
    """A file of requests to be run. Results come in the order of the file."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=128, description="Of the purpose `batch`.")]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: Annotated[
        str, Field(max_length=16, description="When it expires: OpenAI's `24h`, or any other time like `90m` or `30s`.")
    ]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    output_expires_after: OutputExpiresAfter | None = None


class BatchError(Struct, frozen=True):
    """Why the input was refused; `line` counts from 1."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BatchError]


class BatchRequestCounts(Struct, frozen=True):
    """Lines of the input."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(Struct, frozen=True):
    cached_tokens: int


class OutputTokensDetails(Struct, frozen=True):
    reasoning_tokens: int


class BatchUsage(Struct, frozen=True):
    """Tokens of all lines that were answered."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class Batch(Struct, frozen=True, kw_only=True):
    """A batch; times are in seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchRequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(Struct, frozen=True, kw_only=True):
    """The latest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


async def create_batch(call: Call) -> ASGIApp:
    """Run a file of requests; it is checked as a whole before any of it runs."""
    form = await call.read(BatchRequest)
    wish = BatchWish(
        input_file_id=form.input_file_id,
        endpoint=form.endpoint,
        completion_window=form.completion_window,
        metadata=form.metadata,
        output_expires_after_s=None if form.output_expires_after is None else form.output_expires_after.seconds,
    )
    return JsonAnswer(_batch(await call.owned.batches.create(call.principal, wish)))


async def list_batches(call: Call) -> ASGIApp:
    """The batches of the key's tenant: up to `limit` (20 without it), from the one behind `after` on."""
    limit = call.whole_number("limit", _DEFAULT_LIMIT, 0, _MOST)
    found, more = await call.owned.batches.list(call.principal, limit, call.query_params.get("after", ""))
    data = [_batch(each) for each in found]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return JsonAnswer(BatchList(data=data, first_id=ends[0], last_id=ends[1], has_more=more))


async def show_batch(call: Call) -> ASGIApp:
    """How far it is, and the files that it left."""
    return JsonAnswer(_batch(await call.owned.batches.get(call.principal, call.path_params["batch_id"])))


async def cancel_batch(call: Call) -> ASGIApp:
    """End it; what is answered by then is kept."""
    return JsonAnswer(_batch(await call.owned.batches.cancel(call.principal, call.path_params["batch_id"])))


def _batch(seen: BatchView) -> Batch:
    job, spec, checkpoint = seen.job, seen.spec, seen.checkpoint
    return Batch(
        id=job.id,
        endpoint=spec.endpoint,
        model=checkpoint.model,
        errors=BatchErrors(data=[_error(each) for each in seen.problems]) if seen.problems else None,
        input_file_id=spec.input_file_id,
        completion_window=spec.completion_window,
        status=seen.status,
        output_file_id=seen.output_file_id,
        error_file_id=seen.error_file_id,
        created_at=int(job.created_at),
        in_progress_at=_seconds(checkpoint.in_progress_at),
        expires_at=_seconds(job.due_at),
        finalizing_at=_seconds(checkpoint.finalizing_at),
        completed_at=_seconds(seen.ended_at(BatchStatus.COMPLETED)),
        failed_at=_seconds(seen.ended_at(BatchStatus.FAILED)),
        expired_at=_seconds(seen.ended_at(BatchStatus.EXPIRED)),
        cancelling_at=_seconds(seen.cancelling_at),
        cancelled_at=_seconds(seen.ended_at(BatchStatus.CANCELLED)),
        request_counts=BatchRequestCounts(seen.counts.total, seen.counts.completed, seen.counts.failed),
        usage=_usage(seen.usage),
        metadata=spec.metadata,
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def _error(problem: LineProblem) -> BatchError:
    return BatchError(problem.code, problem.line, problem.message, problem.param)


def _usage(sums: TokenSums) -> BatchUsage:
    return BatchUsage(
        input_tokens=sums.input_tokens,
        input_tokens_details=InputTokensDetails(sums.cached_tokens),
        output_tokens=sums.output_tokens,
        output_tokens_details=OutputTokensDetails(0),
        total_tokens=sums.input_tokens + sums.output_tokens,
    )


_PATH: Final = "/v1/batches"
_ONE: Final = _PATH + "/{batch_id}"
_MAY: Final = Permission.GENERATE
ROUTES = (
    GuardedRoute("POST", _PATH, create_batch, permission=_MAY, takes=BatchRequest, gives=Batch, tag="OpenAI"),
    GuardedRoute("GET", _PATH, list_batches, permission=_MAY, gives=BatchList, query=("limit", "after"), tag="OpenAI"),
    GuardedRoute("GET", _ONE, show_batch, permission=_MAY, gives=Batch, tag="OpenAI"),
    GuardedRoute("POST", _ONE + "/cancel", cancel_batch, permission=_MAY, gives=Batch, tag="OpenAI"),
)
