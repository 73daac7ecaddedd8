"""`/admin/v1/deployments/{name}/adapters`: what a deployment serves as `name:adapter`, beside its model itself.

An adapter is on every replica, and on record, when its answer comes; every replica that starts later has it too.
"""

from typing import Annotated, Final

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.config.settings import Name
from pileus.fleet.adapters import AdapterStatus
from pileus.security.permission import Permission


class AdapterWish(WireForm):
    """Which adapter, and for whom."""

    artefact: Name = Field(description="An installed adapter of the deployment's model.")
    tenant: Annotated[str, Field(max_length=128)] = Field(default="", description="Who may use it; empty is everybody.")


class Adapter(Struct, frozen=True, kw_only=True):
    """One adapter of a deployment."""

    name: str
    model: str  # what requests call it
    artefact: str
    tenant: str
    created_at: float
    created_by: str
    served: bool
    error: str  # why it is not served


class AdapterList(Struct, frozen=True):
    data: list[Adapter]


class Removed(Struct, frozen=True):
    name: str
    removed: bool = True


async def list_adapters(call: Call) -> ASGIApp:
    """The adapters of a deployment, of every tenant."""
    return JsonAnswer(AdapterList([_view(each) for each in call.owned.adapters.of(call.path_params["name"])]))


async def add_adapter(call: Call) -> ASGIApp:
    """Serve an installed adapter on every replica, without a restart; another one under this name is replaced."""
    wish = await call.read(AdapterWish)
    path = call.path_params
    added = await call.owned.adapters.add(path["name"], path["adapter"], wish.artefact, wish.tenant, call.principal)
    return JsonAnswer(_view(added))


async def remove_adapter(call: Call) -> ASGIApp:
    """Take no more requests for it. What runs goes on; the artefact stays installed."""
    name = call.path_params["adapter"]
    await call.owned.adapters.remove(call.path_params["name"], name, call.principal)
    return JsonAnswer(Removed(name))


def _view(status: AdapterStatus) -> Adapter:
    row = status.row
    return Adapter(
        name=row.name,
        model=f"{row.deployment}:{row.name}",
        artefact=row.artefact,
        tenant=row.tenant,
        created_at=row.created_at,
        created_by=row.created_by,
        served=not status.error,
        error=status.error,
    )


_PATH = "/admin/v1/deployments/{name}/adapters"
_ONE = _PATH + "/{adapter}"
_SEE: Final = Permission.STATUS_READ
_MANAGE: Final = Permission.MODELS_MANAGE
ROUTES = (
    GuardedRoute("GET", _PATH, list_adapters, permission=_SEE, gives=AdapterList, tag="Admin"),
    GuardedRoute("PUT", _ONE, add_adapter, permission=_MANAGE, takes=AdapterWish, gives=Adapter, tag="Admin"),
    GuardedRoute("DELETE", _ONE, remove_adapter, permission=_MANAGE, gives=Removed, tag="Admin"),
)
