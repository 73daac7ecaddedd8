"""`/v1/fine_tuning/jobs`: models that learn from people's examples, in OpenAI's form.

Hyperparameters of ours (`adaptation`, `rank`, `alpha`, `target_modules`, `max_length`, `patience`) stand beside
OpenAI's.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Struct
from pydantic import Field, model_validator
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest
from pileus.security.permission import Permission
from pileus.training.finetune.records import Kept, Method, Plan, Target, Wishes
from pileus.training.finetune.service import FineTuneWish
from pileus.training.finetune.view import FineTuneEvent, FineTuneStatus, FineTuneView, checkpoint_id

_DEFAULT_LIMIT: Final = 20
_DEFAULT_CHECKPOINTS: Final = 10
_MOST: Final = 1000
_LARGEST_SEED: Final = 2**31 - 1

Auto = Literal["auto"]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
FileId = Annotated[str, Field(min_length=1, max_length=128, description="Of the purpose `fine-tune`.")]


class Hyperparameters(WireForm):
    """How it learns; `auto` lets the data decide."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"
    adaptation: Annotated[
        Literal["lora", "full"],
        Field(description="`lora` makes an adapter beside its base; `full` a model of its own, for administrators."),
    ] = "lora"
    rank: Auto | Annotated[int, Field(ge=1, le=256, description="Of the adapter.")] = "auto"
    alpha: Auto | Annotated[float, Field(gt=0, le=1024, description="What is learnt counts alpha / rank.")] = "auto"
    target_modules: Auto | Annotated[list[Target], Field(min_length=1, max_length=7)] = "auto"
    max_length: Auto | Annotated[int, Field(ge=16, le=131_072, description="Tokens; what is beyond is cut.")] = "auto"
    patience: Annotated[
        int | None, Field(ge=1, le=50, description="Epochs without a lower validation loss before it stops early.")
    ] = None


class DpoHyperparameters(Hyperparameters):
    """As those of `supervised`, with the price of leaving the base."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class SupervisedMethod(WireForm):
    hyperparameters: Hyperparameters = Hyperparameters()


class DpoMethod(WireForm):
    hyperparameters: DpoHyperparameters = DpoHyperparameters()


class FineTuneMethod(WireForm):
    """Learn answers as they are, or which of two is the better."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    @model_validator(mode="after")
    def _only_its_own(self) -> "FineTuneMethod":
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"`method.{other}` does not belong to the method {self.type}")
        return self


class FineTuningRequest(WireForm):
    """A file of examples that a model is to learn from."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="A deployment's name, or a model's.")]
    training_file: FileId
    validation_file: FileId | None = None
    method: FineTuneMethod | None = None
    hyperparameters: Annotated[Hyperparameters | None, Field(description="The old place of those of `method`.")] = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=_LARGEST_SEED)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Any], Field(max_length=0, description="There are none yet.")] | None = None


class FineTuningError(Struct, frozen=True):
    """Why it failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(Struct, frozen=True, kw_only=True):
    """Times are Unix times. Hyperparameters that were `auto` are numbers once the files are checked."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: FineTuningError | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: dict[str, Any]
    model: str
    organization_id: str
    result_files: list[str]
    status: FineTuneStatus
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[Any]
    metadata: dict[str, str] | None
    method: dict[str, Any]
    suffix: str | None


class FineTuningJobList(Struct, frozen=True, kw_only=True):
    """The latest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class FineTuningEvent(Struct, frozen=True, kw_only=True):
    """Something that the job told; with `metrics`, what was measured is in `data`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, float] | None


class FineTuningEventList(Struct, frozen=True, kw_only=True):
    """The latest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool


class FineTuningCheckpoint(Struct, frozen=True, kw_only=True):
    """The model as it was after a step: it can be used under its own name."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int


class FineTuningCheckpointList(Struct, frozen=True, kw_only=True):
    """The latest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


async def create_fine_tuning(call: Call) -> ASGIApp:
    """Have a model learn from a file; all of it is checked before anything runs."""
    form = await call.read(FineTuningRequest)
    method, hyperparameters = _method(form)
    wish = FineTuneWish(
        model=form.model,
        training_file=form.training_file,
        validation_file=form.validation_file,
        method=method,
        wishes=_wishes(hyperparameters),
        suffix=form.suffix,
        seed=form.seed,
        metadata=form.metadata,
        legacy=form.method is None,
    )
    if wish.wishes.patience is not None and form.validation_file is None:
        raise InvalidRequest("`patience` needs a `validation_file`", param="validation_file")
    return JsonAnswer(_job(await call.owned.fine_tuning.create(call.principal, wish)))


async def list_fine_tunings(call: Call) -> ASGIApp:
    """The jobs of the key's tenant: up to `limit` (20 without it), from the one behind `after` on."""
    limit = call.whole_number("limit", _DEFAULT_LIMIT, 0, _MOST)
    found, more = await call.owned.fine_tuning.latest(call.principal, limit, call.query_params.get("after", ""))
    return JsonAnswer(FineTuningJobList(data=[_job(each) for each in found], has_more=more))


async def show_fine_tuning(call: Call) -> ASGIApp:
    """How far it is, and the model that came of it."""
    return JsonAnswer(_job(await call.owned.fine_tuning.get(call.principal, call.path_params["job_id"])))


async def cancel_fine_tuning(call: Call) -> ASGIApp:
    """End it; models of earlier epochs are kept."""
    return JsonAnswer(_job(await call.owned.fine_tuning.cancel(call.principal, call.path_params["job_id"])))


async def pause_fine_tuning(call: Call) -> ASGIApp:
    """Have it wait; it stops after its present step."""
    return JsonAnswer(_job(await call.owned.fine_tuning.pause(call.principal, call.path_params["job_id"])))


async def resume_fine_tuning(call: Call) -> ASGIApp:
    """Have it go on where it was paused, or where it failed."""
    return JsonAnswer(_job(await call.owned.fine_tuning.resume(call.principal, call.path_params["job_id"])))


async def list_fine_tuning_events(call: Call) -> ASGIApp:
    """What it told, the latest first."""
    limit = call.whole_number("limit", _DEFAULT_LIMIT, 0, _MOST)
    found, more = await call.owned.fine_tuning.events(
        call.principal, call.path_params["job_id"], limit, call.query_params.get("after", "")
    )
    return JsonAnswer(FineTuningEventList(data=[_event(each) for each in found], has_more=more))


async def list_fine_tuning_checkpoints(call: Call) -> ASGIApp:
    """Its models that can be used, the latest first."""
    job_id = call.path_params["job_id"]
    limit = call.whole_number("limit", _DEFAULT_CHECKPOINTS, 0, _MOST)
    found, more = await call.owned.fine_tuning.checkpoints(
        call.principal, job_id, limit, call.query_params.get("after", "")
    )
    data = [_checkpoint(job_id, each) for each in found]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return JsonAnswer(FineTuningCheckpointList(data=data, first_id=ends[0], last_id=ends[1], has_more=more))


def _method(form: FineTuningRequest) -> tuple[Method, Hyperparameters]:
    if form.method is None:
        return Method.SUPERVISED, form.hyperparameters or Hyperparameters()
    if form.hyperparameters is not None:
        raise InvalidRequest("give hyperparameters with their `method` only", param="hyperparameters")
    if form.method.type == "dpo":
        return Method.DPO, DpoHyperparameters() if form.method.dpo is None else form.method.dpo.hyperparameters
    supervised = form.method.supervised
    return Method.SUPERVISED, Hyperparameters() if supervised is None else supervised.hyperparameters


def _wishes(form: Hyperparameters) -> Wishes:
    asked: dict[str, Any] = {name: None if value == "auto" else value for name, value in form.model_dump().items()}
    if asked["target_modules"] is not None:
        asked["target_modules"] = tuple(dict.fromkeys(asked["target_modules"]))
    return Wishes(**asked)


def _job(seen: FineTuneView) -> FineTuningJob:
    job, spec = seen.job, seen.spec
    hyperparameters = _hyperparameters(seen)
    return FineTuningJob(
        id=job.id,
        created_at=int(job.created_at),
        error=None if seen.error is None else FineTuningError(seen.error.code, seen.error.message, seen.error.param),
        fine_tuned_model=seen.fine_tuned_model,
        finished_at=_seconds(job.finished_at),
        hyperparameters={name: hyperparameters[name] for name in _OPENAIS},
        model=spec.model,
        organization_id=job.tenant,
        result_files=[] if seen.result is None or seen.result.result is None else [seen.result.result.file_id],
        status=seen.status,
        trained_tokens=seen.trained_tokens,
        training_file=spec.training.file_id,
        validation_file=None if spec.validation is None else spec.validation.file_id,
        seed=spec.seed,
        estimated_finish=_seconds(seen.estimated_finish),
        integrations=[],
        metadata=spec.metadata,
        method={"type": spec.method, spec.method: {"hyperparameters": hyperparameters}},
        suffix=spec.suffix,
    )


_OPENAIS: Final = ("n_epochs", "batch_size", "learning_rate_multiplier")
_ADAPTERS: Final = ("rank", "alpha", "target_modules")


def _hyperparameters(seen: FineTuneView) -> dict[str, Any]:
    """As they are; those that the data will decide are `auto` before."""
    wishes, checked = seen.spec.wishes, seen.record.checked
    source: Wishes | Plan = wishes if checked is None else checked.plan
    names = [*_OPENAIS, "max_length", *(_ADAPTERS if wishes.adaptation == "lora" else ())]
    names += ["beta"] if seen.spec.method is Method.DPO else []
    values = {name: getattr(source, name) for name in names}
    told = {name: "auto" if value is None else value for name, value in values.items()}
    return told | {"adaptation": wishes.adaptation, "patience": wishes.patience}


def _event(event: FineTuneEvent) -> FineTuningEvent:
    return FineTuningEvent(
        id=event.id,
        created_at=int(event.at),
        level=event.level,
        message=event.message,
        type="message" if event.values is None else "metrics",
        data=event.values,
    )


def _checkpoint(job_id: str, kept: Kept) -> FineTuningCheckpoint:
    full = {f"full_{name}": value for name, value in kept.metrics.items() if name.startswith("valid_")}
    return FineTuningCheckpoint(
        id=checkpoint_id(job_id, kept.step),
        created_at=int(kept.at),
        fine_tuned_model_checkpoint=kept.name,
        fine_tuning_job_id=job_id,
        metrics={"step": float(kept.step), **kept.metrics, **full},
        step_number=kept.step,
    )


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


_PATH: Final = "/v1/fine_tuning/jobs"
_ONE: Final = _PATH + "/{job_id}"


def _get(path: str, handler: Any, gives: type[Any], *query: str) -> GuardedRoute:
    return GuardedRoute("GET", path, handler, permission=_MAY, gives=gives, query=query, tag="OpenAI")


def _post(path: str, handler: Any) -> GuardedRoute:
    return GuardedRoute("POST", path, handler, permission=_MAY, gives=FineTuningJob, tag="OpenAI")


_MAY: Final = Permission.FINE_TUNE
ROUTES = (
    GuardedRoute(
        "POST", _PATH, create_fine_tuning, permission=_MAY, takes=FineTuningRequest, gives=FineTuningJob, tag="OpenAI"
    ),
    _get(_PATH, list_fine_tunings, FineTuningJobList, "limit", "after"),
    _get(_ONE, show_fine_tuning, FineTuningJob),
    _post(_ONE + "/cancel", cancel_fine_tuning),
    _post(_ONE + "/pause", pause_fine_tuning),
    _post(_ONE + "/resume", resume_fine_tuning),
    _get(_ONE + "/events", list_fine_tuning_events, FineTuningEventList, "limit", "after"),
    _get(_ONE + "/checkpoints", list_fine_tuning_checkpoints, FineTuningCheckpointList, "limit", "after"),
)
