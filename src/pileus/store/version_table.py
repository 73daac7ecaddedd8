"""The statements of versions of models and their lineage. Every method runs inside a transaction that the
caller opened."""

from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from pileus.store import schema


class Version(Struct, frozen=True, kw_only=True):
    """A model as it was at one time: an artefact, and where it came from."""

    id: str
    model: str
    number: int  # from 1 on, within the model
    artefact: str  # its name in the models folder
    kind: str  # of the artefact: see `models.artefact.Kind`
    sha256: str  # of the artefact's manifest
    size_bytes: int
    licence: str
    stage: str  # candidate, staging, production, retired
    tenant: str
    created_at: float
    created_by: str  # key id
    job_id: str = ""  # that made it
    card: bytes = b"{}"  # JSON
    signature: bytes = b""


class Edge(Struct, frozen=True):
    """`child` came of `parent`. Each is a kind of thing (version, dataset, job, deployment) and its id."""

    child_kind: str
    child: str
    parent_kind: str
    parent: str
    relation: str  # e.g. fine-tuned from


class Alias(Struct, frozen=True):
    """A name for one version of a model, which may move."""

    model: str
    alias: str
    version_id: str
    changed_at: float
    changed_by: str  # key id


class VersionTable:
    """Versions by id; a model's are numbered."""

    def insert(self, tx: Connection, version: Version) -> None:
        tx.execute(insert(schema.model_version), structs.asdict(version))

    def next_number(self, tx: Connection, model: str) -> int:
        table = schema.model_version
        last = tx.execute(select(func.max(table.c.number)).where(table.c.model == model)).scalar()
        return (last or 0) + 1

    def all(self, tx: Connection) -> list[Version]:
        """By model, the latest first."""
        table = schema.model_version
        query = select(table).order_by(table.c.model, table.c.number.desc())
        return [_version(row) for row in tx.execute(query).mappings()]

    def of_model(self, tx: Connection, model: str) -> list[Version]:
        """The latest first."""
        table = schema.model_version
        query = select(table).where(table.c.model == model).order_by(table.c.number.desc())
        return [_version(row) for row in tx.execute(query).mappings()]

    def contents(self, tx: Connection) -> set[tuple[str, str]]:
        """(artefact, sha256) of every version."""
        table = schema.model_version
        return {(row.artefact, row.sha256) for row in tx.execute(select(table.c.artefact, table.c.sha256))}

    def of_content(self, tx: Connection, artefact: str, sha256: str) -> Version | None:
        """The latest that is this very artefact."""
        table = schema.model_version
        query = select(table).where(table.c.artefact == artefact, table.c.sha256 == sha256)
        row = tx.execute(query.order_by(table.c.number.desc())).mappings().first()
        return None if row is None else _version(row)

    def of_manifest(self, tx: Connection, sha256: str) -> list[Version]:
        """All whose artefact's manifest has this digest, the latest first."""
        table = schema.model_version
        query = select(table).where(table.c.sha256 == sha256).order_by(table.c.created_at.desc())
        return [_version(row) for row in tx.execute(query).mappings()]

    def change(self, tx: Connection, version_id: str, **values: Any) -> None:
        table = schema.model_version
        tx.execute(update(table).where(table.c.id == version_id).values(values))

    def delete(self, tx: Connection, version_id: str) -> None:
        tx.execute(delete(schema.model_version).where(schema.model_version.c.id == version_id))

    def of_artefact(self, tx: Connection, artefact: str) -> Version | None:
        """The latest that is this artefact."""
        table = schema.model_version
        query = select(table).where(table.c.artefact == artefact).order_by(table.c.number.desc())
        row = tx.execute(query).mappings().first()
        return None if row is None else _version(row)


class AliasTable:
    """Names for versions, each within its model."""

    def all(self, tx: Connection, model: str | None = None) -> list[Alias]:
        """By model and alias."""
        table = schema.model_alias
        query = select(table).order_by(table.c.model, table.c.alias)
        query = query if model is None else query.where(table.c.model == model)
        return [Alias(**row) for row in tx.execute(query).mappings()]

    def put(self, tx: Connection, alias: Alias) -> None:
        """Set it, or move it."""
        table, values = schema.model_alias, structs.asdict(alias)
        which = (table.c.model == alias.model, table.c.alias == alias.alias)
        if not tx.execute(update(table).where(*which).values(values)).rowcount:
            tx.execute(insert(table).values(values))

    def delete(self, tx: Connection, model: str, alias: str) -> bool:
        """Whether there was one."""
        table = schema.model_alias
        gone = tx.execute(delete(table).where(table.c.model == model, table.c.alias == alias))
        return gone.rowcount > 0


class LineageTable:
    """What came of what."""

    def insert(self, tx: Connection, edge: Edge) -> None:
        """No-op where it is known."""
        tx.execute(insert(schema.lineage).prefix_with("OR IGNORE", dialect="sqlite"), structs.asdict(edge))

    def all(self, tx: Connection) -> list[Edge]:
        return [Edge(**row) for row in tx.execute(select(schema.lineage)).mappings()]


def _version(row: RowMapping) -> Version:
    return Version(**row)
