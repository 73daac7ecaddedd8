"""`/admin/v1/models`: models with their versions, what each came of, and what people change of them.

Everybody sees the versions of the own tenant and those that are everybody's; who watches the server sees all. A
`version` in a path is its number, an alias, or `latest`.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from msgspec import Struct
from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from pileus.api.body import WireForm
from pileus.api.route import Call, GuardedRoute
from pileus.api.stream import JsonAnswer
from pileus.core.errors import InvalidRequest
from pileus.core.records import Principal
from pileus.models.difference import Difference
from pileus.models.lineage import Deployed, Graph
from pileus.models.registry import Stage
from pileus.models.versions import CardWish
from pileus.models.views import ModelView, VersionDetail
from pileus.security.permission import Permission

Prose = Annotated[str | None, Field(max_length=20_000)]


class ModelVersionList(Struct, frozen=True):
    """By name."""

    data: list[ModelView]


class AliasDropped(Struct, frozen=True):
    model: str
    alias: str
    deleted: bool


class StageWish(WireForm):
    """How far a version is trusted."""

    stage: str = Field(description=f"One of {', '.join(Stage)}.")


class CardForm(WireForm):
    """What to say of a version; what is left out stays as it is. A changed card is to be signed again."""

    licence: Annotated[str | None, Field(max_length=200)] = None
    intended_use: Prose = None
    limits: Prose = None
    data: Prose = None
    notes: Prose = None


class AliasWish(WireForm):
    """Where the alias leads from now on."""

    version: str = Field(description="A version's number, another alias, or `latest`.")


async def list_models(call: Call) -> ASGIApp:
    """Every model that has versions, with them and with its aliases."""
    return JsonAnswer(ModelVersionList(await call.owned.registry.models(_seen(call.principal))))


async def show_model(call: Call) -> ASGIApp:
    """One model with its versions, the latest first."""
    return JsonAnswer(await call.owned.registry.model(call.path_params["model"], _seen(call.principal)))


async def show_version(call: Call) -> ASGIApp:
    """One version with its card, its files, and what it came of."""
    return JsonAnswer(await call.owned.registry.version(*_one(call), _seen(call.principal)))


async def show_card(call: Call) -> ASGIApp:
    """The card of a version as a page of Markdown."""
    text = await call.owned.registry.card(*_one(call), _seen(call.principal))
    return PlainTextResponse(text, media_type="text/markdown")


async def set_stage(call: Call) -> ASGIApp:
    """Move a version to another stage."""
    wish = await call.read(StageWish)
    who = call.principal
    return JsonAnswer(await call.owned.registry.set_stage(*_one(call), wish.stage, who, _seen(who)))


async def describe(call: Call) -> ASGIApp:
    """Change what a version's card says."""
    form = await call.read(CardForm)
    who = call.principal
    return JsonAnswer(await call.owned.registry.describe(*_one(call), CardWish(**form.model_dump()), who, _seen(who)))


async def sign(call: Call) -> ASGIApp:
    """Vouch for a version's artefact and card in this Pileus' name."""
    return JsonAnswer(await call.owned.registry.sign(*_one(call), call.principal, _seen(call.principal)))


async def set_alias(call: Call) -> ASGIApp:
    """Let a name lead to a version; where it is in use, it moves."""
    wish = await call.read(AliasWish)
    model, alias, who = call.path_params["model"], call.path_params["alias"], call.principal
    return JsonAnswer(await call.owned.registry.set_alias(model, alias, wish.version, who, _seen(who)))


async def drop_alias(call: Call) -> ASGIApp:
    """Forget a name for a version."""
    model, alias = call.path_params["model"], call.path_params["alias"]
    await call.owned.registry.drop_alias(model, alias, call.principal, _seen(call.principal))
    return JsonAnswer(AliasDropped(model, alias, True))


async def diff(call: Call) -> ASGIApp:
    """What sets a version apart from the one `with` that number or alias, or from another model's (`model@version`)."""
    model, version = _one(call)
    other = call.query_params.get("with", "")
    if not other:
        raise InvalidRequest("`with` should name the other version", param="with")
    name, at, ref = other.rpartition("@")
    after = (name, ref) if at else (model, other)
    return JsonAnswer(await call.owned.registry.diff((model, version), after, _seen(call.principal)))


async def lineage(call: Call) -> ASGIApp:
    """What a model came of and what came of it, from datasets to deployments; of one `version` where it is given."""
    who, ref = call.principal, call.query_params.get("version", "")
    return JsonAnswer(await call.owned.registry.lineage(call.path_params["model"], ref, _seen(who), _deployed(call)))


def _one(call: Call) -> tuple[str, str]:
    return call.path_params["model"], call.path_params["version"]


def _seen(who: Principal) -> str | None:
    """The tenant whose versions they see; None for all."""
    return None if Permission.STATUS_READ in who.permissions else who.tenant


def _deployed(call: Call) -> Iterable[Deployed]:
    return [Deployed(each.info.name, each.info.model) for each in call.owned.deployments.all()]


def _get(path: str, handler: Any, gives: type[Any], *query: str) -> GuardedRoute:
    return GuardedRoute("GET", path, handler, permission=Permission.MODELS_READ, gives=gives, query=query, tag="Admin")


def _change(method: str, path: str, handler: Any, takes: Any = None, gives: type[Any] = VersionDetail) -> GuardedRoute:
    return GuardedRoute(
        method, path, handler, permission=Permission.MODELS_MANAGE, takes=takes, gives=gives, tag="Admin"
    )


_PATH: Final = "/admin/v1/models"
_MODEL: Final = _PATH + "/{model}"
_VERSION: Final = _MODEL + "/versions/{version}"
_ALIAS: Final = _MODEL + "/aliases/{alias}"
ROUTES = (
    _get(_PATH, list_models, ModelVersionList),
    _get(_MODEL, show_model, ModelView),
    _get(_MODEL + "/lineage", lineage, Graph, "version"),
    _get(_VERSION, show_version, VersionDetail),
    _get(_VERSION + "/card", show_card, str),
    _get(_VERSION + "/diff", diff, Difference, "with"),
    _change("PUT", _VERSION + "/stage", set_stage, StageWish),
    _change("PATCH", _VERSION + "/card", describe, CardForm),
    _change("POST", _VERSION + "/sign", sign),
    _change("PUT", _ALIAS, set_alias, AliasWish),
    _change("DELETE", _ALIAS, drop_alias, None, AliasDropped),
)
