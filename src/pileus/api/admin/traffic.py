"""`/admin/v1/traffic`: public names and who answers for them; `/admin/v1/verdicts`: what the gate has said;
`/admin/v1/evaluations`: what jobs that look at models have found."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Raw, Struct
from pydantic import Field
from starlette.responses import Response
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest, NotFound
from pileus.evaluation.judging import Shown
from pileus.evaluation.promotion import Traffic
from pileus.security.permission import Permission

_KINDS: Final = ("evaluate", "gate", "attention")
_VERDICTS, _MOST_VERDICTS = 20, 200

Name = Annotated[str, Field(min_length=1, max_length=128)]


class PromotionWish(WireForm):
    """Which deployment the name shall mean; with `canary`, a share of its requests first."""

    to: Name
    canary: Annotated[float, Field(gt=0, lt=1)] | None = None
    watch_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 600.0
    least_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    force: bool = False


class TrafficView(Struct, frozen=True):
    """A public name; `answered` are the canary's requests in its present step."""

    traffic: Traffic
    answered: int


class TrafficList(Struct, frozen=True):
    data: list[TrafficView]


class VerdictList(Struct, frozen=True):
    """The latest first."""

    data: list[Shown]


class TrafficRemoved(Struct, frozen=True):
    name: str
    removed: Literal[True] = True


class Found(Struct, frozen=True):
    """What a job has found; how it looks, its kind says."""

    id: str
    kind: str
    result: Raw


async def list_traffic(call: Call) -> ASGIApp:
    """Every public name."""
    return JsonAnswer(TrafficList([_view(call, each) for each in call.owned.promotions.all()]))


async def show_traffic(call: Call) -> ASGIApp:
    """One public name."""
    return JsonAnswer(_view(call, call.owned.promotions.get(call.path_params["name"])))


async def promote(call: Call) -> ASGIApp:
    """Let a deployment have the requests of a name. Where it is answered already, refused without a verdict of the gate
    that the settings let count, unless it is forced."""
    wish, name = await call.read(PromotionWish), call.path_params["name"]
    if not name.isprintable() or len(name) > 128:
        raise InvalidRequest("the name should be at most 128 printable characters", param="name")
    traffic = await call.owned.promotions.promote(
        name,
        wish.to,
        call.principal,
        canary=wish.canary,
        watch_s=wish.watch_s,
        least_requests=wish.least_requests,
        force=wish.force,
    )
    return JsonAnswer(_view(call, traffic))


async def roll_back(call: Call) -> ASGIApp:
    """End a canary, or undo the last promotion."""
    return JsonAnswer(_view(call, await call.owned.promotions.roll_back(call.path_params["name"], call.principal)))


async def remove(call: Call) -> ASGIApp:
    """Have it be a name as any other."""
    await call.owned.promotions.remove(call.path_params["name"], call.principal)
    return JsonAnswer(TrafficRemoved(call.path_params["name"]))


async def verdicts(call: Call) -> ASGIApp:
    """The latest verdicts of the gate, with their evidence, and whether each is genuine."""
    limit = call.whole_number("limit", _VERDICTS, 1, _MOST_VERDICTS)
    return JsonAnswer(VerdictList(await call.owned.judge.latest(limit)))


async def evaluation(call: Call) -> ASGIApp:
    """What a job of the kinds `evaluate`, `gate` or `attention` has found."""
    job = await call.owned.jobs.get(call.path_params["id"], None)
    if job.kind not in _KINDS or not job.result:
        raise NotFound(f"there is no result of an evaluation {job.id!r}: see how far it is with `pileus jobs`")
    return Response(msgspec.json.encode(Found(job.id, job.kind, Raw(job.result))), media_type="application/json")


def _view(call: Call, traffic: Traffic) -> TrafficView:
    return TrafficView(traffic, call.owned.promotions.answered(traffic.name))


_PATH: Final = "/admin/v1/traffic"
_ONE: Final = _PATH + "/{name}"
_SEE, _MANAGE = Permission.STATUS_READ, Permission.MODELS_MANAGE
ROUTES: Final = (
    GuardedRoute("GET", _PATH, list_traffic, permission=_SEE, gives=TrafficList, tag="Admin"),
    GuardedRoute("GET", _ONE, show_traffic, permission=_SEE, gives=TrafficView, tag="Admin"),
    GuardedRoute("PUT", _ONE, promote, permission=_MANAGE, takes=PromotionWish, gives=TrafficView, tag="Admin"),
    GuardedRoute("POST", _ONE + "/rollback", roll_back, permission=_MANAGE, gives=TrafficView, tag="Admin"),
    GuardedRoute("DELETE", _ONE, remove, permission=_MANAGE, gives=TrafficRemoved, tag="Admin"),
    GuardedRoute(
        "GET", "/admin/v1/verdicts", verdicts, permission=_SEE, gives=VerdictList, query=("limit",), tag="Admin"
    ),
    GuardedRoute("GET", "/admin/v1/evaluations/{id}", evaluation, permission=_MANAGE, tag="Admin"),
)
