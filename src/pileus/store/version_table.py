"""The statements of versions of models and their lineage. Every method runs inside a transaction that the
caller opened."""

from msgspec import Struct, structs
from sqlalchemy import Connection, RowMapping, func, insert, select

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

    def of_artefact(self, tx: Connection, artefact: str) -> Version | None:
        """The latest that is this artefact."""
        table = schema.model_version
        query = select(table).where(table.c.artefact == artefact).order_by(table.c.number.desc())
        row = tx.execute(query).mappings().first()
        return None if row is None else _version(row)


class LineageTable:
    """What came of what."""

    def insert(self, tx: Connection, edge: Edge) -> None:
        """No-op where it is known."""
        tx.execute(insert(schema.lineage).prefix_with("OR IGNORE", dialect="sqlite"), structs.asdict(edge))

    def all(self, tx: Connection) -> list[Edge]:
        return [Edge(**row) for row in tx.execute(select(schema.lineage)).mappings()]


def _version(row: RowMapping) -> Version:
    return Version(**row)
