"""`/admin/v1/keys`: who may use this server."""

from typing import Annotated, Literal

from msgspec import Struct
from pydantic import Field
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.records import PRIORITY_LIMIT, USUAL_LANES, Lane
from pileus.security.permission import Permission
from pileus.security.rights import GREATEST_TOKENS_PER_S, GREATEST_WEIGHT, LEAST_WEIGHT
from pileus.store.tables import ApiKey

Budget = Annotated[int, Field(ge=0, le=2**63 - 1)]
Weight = Annotated[float, Field(ge=LEAST_WEIGHT, le=GREATEST_WEIGHT)]
Rate = Annotated[float, Field(ge=0, le=GREATEST_TOKENS_PER_S)]
Priority = Annotated[int, Field(ge=0, le=PRIORITY_LIMIT)]
LaneName = Annotated[Lane, Field(strict=False)]  # JSON has no enumerations


class KeyWish(WireForm):
    """A key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=128, description="Who or what will use it.")]
    role: Literal["admin", "operator", "user"] = "user"
    tenant: Annotated[str, Field(min_length=1, max_length=128)] = "default"
    token_budget: Budget | None = Field(default=None, description="Tokens over the key's life.")
    budget_micros: Budget | None = Field(default=None, description="Micro-units of money over the key's life.")
    expires_at: float | None = Field(default=None, description="Unix time.")
    lanes: Annotated[list[LaneName], Field(min_length=1)] = Field(
        default=list(USUAL_LANES), description="Lanes that its requests may use."
    )
    max_priority: Priority = Field(default=0, description="The highest priority that its requests may have.")
    weight: Weight = Field(default=1.0, description="Its tenant has the largest of its keys, and a share by it.")
    tokens_per_s: Rate = Field(
        default=0.0, description="Answer tokens per second that its tenant is guaranteed in the lane `continuous`."
    )


class KeyList(Struct, frozen=True):
    """All keys, oldest first, without their secrets."""

    data: list[ApiKey]


class NewKey(ApiKey, frozen=True, kw_only=True):
    """The only time that the secret is told."""

    secret: str


async def list_keys(call: Call) -> ASGIApp:
    """All keys and what each has used."""
    return JsonAnswer(KeyList(await call.owned.keys.list()))


async def create_key(call: Call) -> ASGIApp:
    """Make a key; the answer is the only one that has its secret."""
    wish = await call.read(KeyWish)
    key, secret = await call.owned.keys.create(**wish.model_dump(), actor=call.principal.key_id)
    return JsonAnswer(NewKey(**{name: getattr(key, name) for name in key.__struct_fields__}, secret=secret), None, 201)


async def revoke_key(call: Call) -> ASGIApp:
    """Close a key at once; answers that are being made for it end."""
    return JsonAnswer(await call.owned.keys.revoke(call.path_params["key_id"], actor=call.principal.key_id))


_PATH = "/admin/v1/keys"
ROUTES = (
    GuardedRoute("GET", _PATH, list_keys, permission=Permission.KEYS_MANAGE, gives=KeyList, tag="Admin"),
    GuardedRoute(
        "POST", _PATH, create_key, permission=Permission.KEYS_MANAGE, takes=KeyWish, gives=NewKey, tag="Admin"
    ),
    GuardedRoute(
        "DELETE", _PATH + "/{key_id}", revoke_key, permission=Permission.KEYS_MANAGE, gives=ApiKey, tag="Admin"
    ),
)
