"""The registry of a data folder without a server: what the API would answer an administrator, as plain records."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.core.records import Principal
from pileus.fleet.plan import revived
from pileus.models.lineage import Deployed
from pileus.models.versions import CardWish, Registry
from pileus.security.audit import SYSTEM
from pileus.store.tables import DeploymentTable

if TYPE_CHECKING:
    from pileus.config.settings import Settings
    from pileus.store.port import Store

_OWNER = Principal(SYSTEM, "", "admin", frozenset())


class LocalRegistry:
    """Meets `cli.versions.Versions`."""

    def __init__(self, registry: Registry, store: "Store", settings: "Settings") -> None:
        self._registry = registry
        self._store = store
        self._settings = settings

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _plain(self._registry.models(None))
        return found

    def version(self, model: str, ref: str) -> dict[str, Any]:
        return dict(_plain(self._registry.version(model, ref, None)))

    def card(self, model: str, ref: str) -> str:
        return asyncio.run(self._registry.card(model, ref, None))

    def set_stage(self, model: str, ref: str, stage: str) -> dict[str, Any]:
        return dict(_plain(self._registry.set_stage(model, ref, stage, _OWNER, None)))

    def set_alias(self, model: str, alias: str, ref: str) -> dict[str, Any]:
        return dict(_plain(self._registry.set_alias(model, alias, ref, _OWNER, None)))

    def drop_alias(self, model: str, alias: str) -> None:
        asyncio.run(self._registry.drop_alias(model, alias, _OWNER, None))

    def describe(self, model: str, ref: str, said: dict[str, str]) -> dict[str, Any]:
        return dict(_plain(self._registry.describe(model, ref, CardWish(**said), _OWNER, None)))

    def sign(self, model: str, ref: str) -> dict[str, Any]:
        return dict(_plain(self._registry.sign(model, ref, _OWNER, None)))

    def diff(self, model: str, ref: str, other: tuple[str, str]) -> dict[str, Any]:
        return dict(_plain(self._registry.diff((model, ref), other, None)))

    def lineage(self, model: str, ref: str) -> dict[str, Any]:
        return dict(_plain(self._registry.lineage(model, ref, None, self._deployed())))

    def _deployed(self) -> list[Deployed]:
        """What the next start would serve."""
        settled = self._settings.deployment
        stored = self._store.read_blocking(DeploymentTable().all)
        return [Deployed(each.name, each.model) for each in (*settled, *revived(settled, stored))]


def _plain(answer: Coroutine[Any, Any, Any]) -> Any:
    return msgspec.to_builtins(asyncio.run(answer))
