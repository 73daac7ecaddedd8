"""Models and versions as people see them, over HTTP and in the command line. Times are Unix times."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from pileus.models.artefact import FileDigest
from pileus.models.card import Card, read_card
from pileus.models.shelf import Shelved
from pileus.models.signature import read_signature
from pileus.store.version_table import Alias, Edge, Version


class VersionView(Struct, frozen=True, kw_only=True):
    """One version of a model."""

    id: str
    model: str
    number: int
    artefact: str
    kind: str
    sha256: str  # of the artefact's manifest
    size_bytes: int
    licence: str
    stage: str
    aliases: list[str]
    tenant: str  # empty: everybody's
    created_at: float
    created_by: str
    job_id: str
    installed: bool  # this very artefact is here
    signed_by: str  # public key; empty where it is not signed
    figures: dict[str, float | None]


class AliasView(Struct, frozen=True, kw_only=True):
    """A name for a version."""

    alias: str
    number: int
    changed_at: float
    changed_by: str


class ModelView(Struct, frozen=True, kw_only=True):
    """A model with its versions, the latest first."""

    name: str
    kind: str
    licence: str
    aliases: list[AliasView]
    versions: list[VersionView]


class ParentView(Struct, frozen=True):
    """What a version came of."""

    kind: str
    id: str
    relation: str


class VersionDetail(VersionView, frozen=True, kw_only=True):
    """A version with its card, its files and what it came of."""

    card: Card
    source: str  # of the artefact; empty where it is not here
    files: dict[str, FileDigest] | None  # None where it is not here
    parents: list[ParentView]
    trusted: bool  # the signature is good and of a key that is trusted here


class Records(Struct, frozen=True):
    """What one look at the store and at the folder gave."""

    versions: Sequence[Version]  # that the caller may see; by model, the latest first
    aliases: Sequence[Alias]
    shelf: Mapping[str, Shelved]
    edges: Sequence[Edge] = ()

    def here(self, version: Version) -> Shelved | None:
        """The artefact, if it is this version's and not another of its name."""
        found = self.shelf.get(version.artefact)
        return found if found and found.sha256 == version.sha256 else None

    def names(self, version: Version) -> list[str]:
        """Its aliases."""
        return [each.alias for each in self.aliases if each.version_id == version.id]

    def parents(self, version: Version) -> tuple[Edge, ...]:
        return tuple(edge for edge in self.edges if (edge.child_kind, edge.child) == ("version", version.id))


def model_views(records: Records) -> list[ModelView]:
    grouped: dict[str, list[Version]] = {}
    for version in records.versions:
        grouped.setdefault(version.model, []).append(version)
    return [model_view(name, versions, records) for name, versions in grouped.items()]


def model_view(name: str, versions: Sequence[Version], records: Records) -> ModelView:
    numbers = {version.id: version.number for version in versions}
    return ModelView(
        name=name,
        kind=versions[0].kind,
        licence=versions[0].licence,
        aliases=[
            AliasView(
                alias=each.alias,
                number=numbers[each.version_id],
                changed_at=each.changed_at,
                changed_by=each.changed_by,
            )
            for each in records.aliases
            if each.version_id in numbers
        ],
        versions=[VersionView(**_common(version, records)) for version in versions],
    )


def version_view(version: Version, records: Records) -> VersionView:
    return VersionView(**_common(version, records))


def version_detail(version: Version, records: Records, *, trusted: bool) -> VersionDetail:
    here = records.here(version)
    return VersionDetail(
        **_common(version, records),
        card=read_card(version.card),
        source=here.manifest.source if here else "",
        files=here.manifest.files if here else None,
        parents=_parents(records.parents(version)),
        trusted=trusted,
    )


def _common(version: Version, records: Records) -> dict[str, Any]:
    signature = read_signature(version.signature)
    kept = {name: getattr(version, name) for name in Version.__struct_fields__ if name not in ("card", "signature")}
    return kept | {
        "aliases": records.names(version),
        "installed": records.here(version) is not None,
        "signed_by": signature.key if signature else "",
        "figures": read_card(version.card).figures,
    }


def _parents(edges: Iterable[Edge]) -> list[ParentView]:
    return [ParentView(edge.parent_kind, edge.parent, edge.relation) for edge in edges]
