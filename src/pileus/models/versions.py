"""The registry as a service: what versions of models there are, and what people change of them.

An artefact that lies in the folder and that no version is of yet (it was pulled or imported, with a server or without)
becomes a version at the next look: so whoever installs one need not reach the store.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs
from sqlalchemy import Connection

from pileus.config.settings import NAME_PATTERN
from pileus.core.clock import Clock
from pileus.core.errors import InvalidRequest, ModelNotFound, NotFound
from pileus.core.ids import new_id
from pileus.core.records import AuditEvent, Principal
from pileus.models.card import Card, as_markdown, read_card, write_card
from pileus.models.difference import Difference, Side, difference
from pileus.models.lineage import Deployed, Graph, trace
from pileus.models.registry import CANDIDATE, Stage
from pileus.models.shelf import Shelf, Shelved
from pileus.models.signature import attach, detach, is_valid, read_signature, sign
from pileus.models.views import ModelView, Records, VersionDetail, model_view, model_views, version_detail
from pileus.security.audit import SYSTEM, clean
from pileus.security.signing import Signer
from pileus.store.port import Store
from pileus.store.tables import AuditTable
from pileus.store.version_table import Alias, AliasTable, Edge, LineageTable, Version, VersionTable

Seen = str | None  # the tenant whose versions are seen, beside everybody's; None sees all


class CardWish(Struct, frozen=True, kw_only=True):
    """What to say of a version; None leaves it as it is."""

    licence: str | None = None
    intended_use: str | None = None
    limits: str | None = None
    data: str | None = None
    notes: str | None = None


class Registry:
    """For one event loop. Raises `ModelNotFound` and `NotFound` for what there is not, or is not to be seen."""

    def __init__(
        self, store: Store, artefacts: Path, signer: Signer, clock: Clock, trusted_keys: Collection[str] = ()
    ) -> None:
        self._store = store
        self._shelf = Shelf(artefacts)
        self._signer = signer
        self._clock = clock
        self._trusted = trusted_keys  # beside the own
        self._audit = AuditTable()

    # --- what is seen ---------------------------------------------------------------------------------------------

    async def models(self, seen: Seen) -> list[ModelView]:
        """By name."""
        return model_views(await self._look(seen))

    async def model(self, name: str, seen: Seen) -> ModelView:
        records = await self._look(seen)
        return model_view(name, _of_model(records, name), records)

    async def version(self, model: str, ref: str, seen: Seen) -> VersionDetail:
        """`ref` is a number, an alias, or `latest`."""
        records = await self._look(seen)
        return self._detail(_find(records, model, ref), records)

    async def card(self, model: str, ref: str, seen: Seen) -> str:
        """As Markdown."""
        records = await self._look(seen)
        version = _find(records, model, ref)
        here = records.here(version)
        files = sorted(here.manifest.files) if here else []
        return as_markdown(version, records.names(version), records.parents(version), files)

    async def diff(self, before: tuple[str, str], after: tuple[str, str], seen: Seen) -> Difference:
        """Of two versions, each a model and a `ref`; they may be of different models."""
        records = await self._look(seen)
        first, second = (_side(_find(records, *each), records) for each in (before, after))
        return difference(first, second)

    async def lineage(self, model: str, ref: str, seen: Seen, deployed: Iterable[Deployed]) -> Graph:
        """Of one version, or of all where `ref` is empty."""
        records = await self._look(seen)
        starts = [_find(records, model, ref)] if ref else _of_model(records, model)
        return trace(starts, records.versions, records.edges, deployed)

    # --- what is changed ------------------------------------------------------------------------------------------

    async def set_stage(self, model: str, ref: str, stage: str, by: Principal, seen: Seen) -> VersionDetail:
        """Raises `InvalidRequest` for a version that is to retire while an alias still leads to it."""
        records = await self._look(seen)
        version = _find(records, model, ref)
        if stage not in set(Stage):
            raise InvalidRequest(f"`stage` should be one of {', '.join(Stage)}", param="stage")
        if stage == Stage.RETIRED and (names := records.names(version)):
            raise InvalidRequest(
                f"the alias {names[0]} leads to version {version.number}: move it first", param="stage"
            )
        await self._change(version, by, "model.stage", stage, stage=stage)
        return await self.version(model, str(version.number), seen)

    async def describe(self, model: str, ref: str, wish: CardWish, by: Principal, seen: Seen) -> VersionDetail:
        """Change the card. A signature was of the card as it was, so it goes."""
        records = await self._look(seen)
        version = _find(records, model, ref)
        said = {name: value for name, value in structs.asdict(wish).items() if value is not None}
        licence = said.pop("licence", version.licence)
        card = write_card(structs.replace(read_card(version.card), **said))
        await self._change(version, by, "model.describe", "card", licence=licence, card=card, signature=b"")
        if here := records.here(version):
            await asyncio.to_thread(detach, here.folder)
        return await self.version(model, str(version.number), seen)

    async def set_alias(self, model: str, alias: str, ref: str, by: Principal, seen: Seen) -> VersionDetail:
        """Let this name lead to that version from now on."""
        version = _find(await self._look(seen), model, ref)
        if not re.fullmatch(NAME_PATTERN, alias) or alias.isdigit() or alias == LATEST:
            raise InvalidRequest(
                f"`alias` should be a name of letters, digits and . _ - :, no number and not {LATEST}", param="alias"
            )
        if version.stage == Stage.RETIRED:
            raise InvalidRequest(f"version {version.number} is retired: give it another stage first", param="version")
        event = self._event(by, "model.alias", f"{model}@{alias} to {version.number}")
        row = Alias(model, alias, version.id, event.at, by.key_id)

        def write(tx: Connection) -> None:
            AliasTable().put(tx, row)
            self._audit.insert(tx, [event])

        await self._store.write(write)
        return await self.version(model, str(version.number), seen)

    async def drop_alias(self, model: str, alias: str, by: Principal, seen: Seen) -> None:
        records = await self._look(seen)
        if not any(alias in records.names(version) for version in _of_model(records, model)):
            raise NotFound(f"{model} has no alias {alias!r}")
        event = self._event(by, "model.alias_drop", f"{model}@{alias}")

        def write(tx: Connection) -> None:
            AliasTable().delete(tx, model, alias)
            self._audit.insert(tx, [event])

        await self._store.write(write)

    async def sign(self, model: str, ref: str, by: Principal, seen: Seen) -> VersionDetail:
        """Vouch for an artefact and its card in this Pileus' name. Raises `InvalidRequest` where it is not here."""
        records = await self._look(seen)
        version = _find(records, model, ref)
        here = records.here(version)
        if here is None:
            raise InvalidRequest(f"version {version.number} of {model} is not installed here, so it cannot be signed")
        signature = sign(version.sha256, version.card, self._signer)
        await self._change(version, by, "model.sign", signature.key, signature=msgspec.json.encode(signature))
        await asyncio.to_thread(attach, here.folder, version.card, signature)
        return await self.version(model, str(version.number), seen)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _look(self, seen: Seen) -> Records:
        """With what was installed since the last look."""
        shelf = await asyncio.to_thread(self._shelf.all)
        contents = await self._store.read(VersionTable().contents)
        if new := [each for each in shelf.values() if (each.name, each.sha256) not in contents]:
            await self._store.write(lambda tx: self._adopt(tx, new))

        def read(tx: Connection) -> Records:
            versions = [each for each in VersionTable().all(tx) if seen is None or each.tenant in ("", seen)]
            return Records(versions, AliasTable().all(tx), shelf, LineageTable().all(tx))

        return await self._store.read(read)

    def _adopt(self, tx: Connection, found: Sequence[Shelved]) -> None:
        """Put on record what was pulled or imported. The oldest first, so that numbers follow time."""
        for each in sorted(found, key=lambda shelved: shelved.changed_at):
            if VersionTable().of_content(tx, each.name, each.sha256) is not None:  # another look was faster
                continue
            version = _adopted(tx, each)
            VersionTable().insert(tx, version)
            if source := each.manifest.origin or each.manifest.source:
                LineageTable().insert(tx, Edge("version", version.id, "source", source, "made from"))
            target = f"{version.model}@{version.number}"
            event = AuditEvent(at=self._clock.wall(), actor=SYSTEM, tenant="", action="model.adopt", target=target)
            self._audit.insert(tx, [event])

    async def _change(self, version: Version, by: Principal, action: str, what: str, **values: object) -> None:
        """In one transaction with its record."""
        event = self._event(by, action, f"{version.model}@{version.number} {what}")

        def write(tx: Connection) -> None:
            VersionTable().change(tx, version.id, **values)
            self._audit.insert(tx, [event])

        await self._store.write(write)

    def _event(self, by: Principal, action: str, target: str) -> AuditEvent:
        return clean(AuditEvent(at=self._clock.wall(), actor=by.key_id, tenant=by.tenant, action=action, target=target))

    def _detail(self, version: Version, records: Records) -> VersionDetail:
        return version_detail(version, records, trusted=self._is_trusted(version))

    def _is_trusted(self, version: Version) -> bool:
        signature = read_signature(version.signature)
        if signature is None or signature.key not in {self._signer.public_key, *self._trusted}:
            return False
        return is_valid(signature, version.sha256, version.card)


LATEST = "latest"


def _of_model(records: Records, name: str) -> list[Version]:
    found = [version for version in records.versions if version.model == name]
    if not found:
        raise ModelNotFound(f"there is no model {name!r} with versions here")
    return found


def _find(records: Records, model: str, ref: str) -> Version:
    versions = _of_model(records, model)
    if ref == LATEST:
        return versions[0]
    for version in versions:
        if ref in (str(version.number), version.id) or ref in records.names(version):
            return version
    raise NotFound(f"{model} has no version and no alias {ref!r}; its latest version is {versions[0].number}")


def _side(version: Version, records: Records) -> Side:
    here = records.here(version)
    return Side(version, here.manifest.files if here else None, records.parents(version))


def _adopted(tx: Connection, found: Shelved) -> Version:
    model = found.manifest.model or found.name
    return Version(
        id=new_id("ver"),
        model=model,
        number=VersionTable().next_number(tx, model),
        artefact=found.name,
        kind=found.manifest.kind,
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        licence=found.manifest.licence,
        stage=CANDIDATE,
        tenant="",
        created_at=found.changed_at,
        created_by=SYSTEM,
        card=found.card or write_card(Card()),
        signature=found.signature,
    )
