"""`/admin/v1/deployments`: what runs, and what operators do with it.

An act is checked and on record when its answer comes; then it goes on by itself. `act` of the deployment tells how far
it is, and why it failed if it did. A deployment that was undeployed is gone when it is not found any more.
"""

from typing import Annotated, Final

from msgspec import UNSET, Struct, UnsetType
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.admin.views import Deployment, deployment_view
from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.config.settings import Deployment as Wanted
from pileus.core.errors import InvalidRequest
from pileus.fleet.acts import Act
from pileus.security.permission import Permission

# Administrators have it, and nobody else does.
_MANAGE: Final = Permission.KEYS_MANAGE
_LINES = 100

Replicas = Annotated[int, Field(ge=0, le=64)]


class DeployWish(Wanted, WireForm):
    """A deployment as `pileus.toml` would have it; `name` is the path's."""


class ScaleWish(WireForm):
    """How many replicas there shall be. With bounds it scales by itself between them, without it stays there."""

    replicas: Replicas
    min_replicas: Replicas | None = None
    max_replicas: Replicas | None = None


class DeploymentList(Struct, frozen=True):
    data: list[Deployment]


class ReplicaLog(Struct, frozen=True):
    """The last lines that a replica's process printed, oldest first."""

    replica: str
    lines: list[str]


class LogList(Struct, frozen=True):
    data: list[ReplicaLog]


class Accepted(Struct, frozen=True):
    """The act has begun."""

    name: str
    act: Act
    note: str | UnsetType = UNSET  # what to know besides


async def list_deployments(call: Call) -> ASGIApp:
    """Every deployment with its replicas."""
    return JsonAnswer(DeploymentList([deployment_view(call.owned, each) for each in call.owned.deployments.all()]))


async def show_deployment(call: Call) -> ASGIApp:
    """One deployment with its replicas, and how far the act on it is."""
    return JsonAnswer(deployment_view(call.owned, call.owned.deployments.get(call.path_params["name"])))


async def deploy(call: Call) -> ASGIApp:
    """Run a model under a new name, or change a deployment: its replicas are then replaced one by one."""
    wish = await call.read(DeployWish)
    if wish.name != call.path_params["name"]:
        raise InvalidRequest("`name` should be the name in the path", param="name")
    wanted = Wanted.model_validate(wish.model_dump())
    return _accepted(wanted.name, await call.owned.deployments.deploy(wanted, call.principal))


async def scale(call: Call) -> ASGIApp:
    """Have more replicas or fewer; with 0 it sleeps until somebody asks."""
    name, wish = call.path_params["name"], await call.read(ScaleWish)
    act = await call.owned.deployments.scale(
        name, wish.replicas, call.principal, least=wish.min_replicas, most=wish.max_replicas
    )
    return _accepted(name, act)


async def restart(call: Call) -> ASGIApp:
    """Replace every replica, one by one; open answers go on."""
    name = call.path_params["name"]
    return _accepted(name, await call.owned.deployments.restart(name, call.principal))


async def undeploy(call: Call) -> ASGIApp:
    """Take no more requests for it, let it finish what it has, and forget it. Refused while a public name leads to it,
    unless `force` is true."""
    name, force = call.path_params["name"], call.query_params.get("force", "false")
    if force not in ("true", "false"):
        raise InvalidRequest("`force` should be true or false", param="force")
    deployments = call.owned.deployments
    async with call.owned.promotions.leaving(name, force=force == "true"):
        act = await deployments.undeploy(name, call.principal)
    note = "the settings name it: the next start brings it back" if deployments.in_settings(name) else UNSET
    return _accepted(name, act, note)


async def logs(call: Call) -> ASGIApp:
    """The last `lines` that each replica's process printed."""
    lines = _lines(call)
    tails = call.owned.deployments.tails(call.path_params["name"])
    return JsonAnswer(LogList([ReplicaLog(replica, tail[-lines:]) for replica, tail in tails.items()]))


def _lines(call: Call) -> int:
    given = call.query_params.get("lines", str(_LINES))
    if not given.isdecimal() or not 1 <= int(given[:6]) <= 1000:
        raise InvalidRequest("`lines` should be a number from 1 to 1000", param="lines")
    return int(given)


def _accepted(name: str, act: Act, note: str | UnsetType = UNSET) -> ASGIApp:
    return JsonAnswer(Accepted(name, act, note), None, 202)


_PATH = "/admin/v1/deployments"
_ONE = _PATH + "/{name}"
_SEE: Final = Permission.STATUS_READ
ROUTES = (
    GuardedRoute("GET", _PATH, list_deployments, permission=_SEE, gives=DeploymentList, tag="Admin"),
    GuardedRoute("GET", _ONE, show_deployment, permission=_SEE, gives=Deployment, tag="Admin"),
    GuardedRoute("PUT", _ONE, deploy, permission=_MANAGE, takes=DeployWish, gives=Accepted, tag="Admin"),
    GuardedRoute("PATCH", _ONE, scale, permission=_MANAGE, takes=ScaleWish, gives=Accepted, tag="Admin"),
    GuardedRoute("DELETE", _ONE, undeploy, permission=_MANAGE, gives=Accepted, query=("force",), tag="Admin"),
    GuardedRoute("POST", _ONE + "/restart", restart, permission=_MANAGE, gives=Accepted, tag="Admin"),
    GuardedRoute("GET", _ONE + "/logs", logs, permission=_SEE, gives=LogList, query=("lines",), tag="Admin"),
)
