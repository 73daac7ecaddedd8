"""The statements of public names with shares of traffic, and of the gate's verdicts. Every method runs inside a
transaction that the caller opened."""

from collections.abc import Sequence

from msgspec import Struct, structs
from sqlalchemy import Connection, delete, insert, select, update

from pileus.store import schema


class StoredTraffic(Struct, frozen=True):
    """A public name; `body` is what `evaluation.promotion` knows of it, as JSON."""

    name: str
    body: bytes
    changed_at: float
    changed_by: str  # key id


class Verdict(Struct, frozen=True, kw_only=True):
    """What the gate found of a version, as it was signed."""

    id: str
    version_id: str  # `sha256:...` of the manifest, where the model has no version on record
    passed: bool
    at: float
    body: bytes  # JSON
    signature: bytes


class TrafficTable:
    """By name."""

    def all(self, tx: Connection) -> list[StoredTraffic]:
        table = schema.traffic
        return [StoredTraffic(**row) for row in tx.execute(select(table).order_by(table.c.name)).mappings()]

    def put(self, tx: Connection, row: StoredTraffic) -> None:
        """Insert it, or replace what has its name."""
        table, values = schema.traffic, structs.asdict(row)
        if not tx.execute(update(table).where(table.c.name == row.name).values(values)).rowcount:
            tx.execute(insert(table).values(values))

    def delete(self, tx: Connection, name: str) -> None:
        tx.execute(delete(schema.traffic).where(schema.traffic.c.name == name))


class VerdictTable:
    """By version, the latest first."""

    def insert(self, tx: Connection, verdict: Verdict) -> None:
        tx.execute(insert(schema.verdict), structs.asdict(verdict) | {"passed": int(verdict.passed)})

    def latest(self, tx: Connection, limit: int, versions: Sequence[str] = ()) -> list[Verdict]:
        """Of these versions, or of all."""
        table = schema.verdict
        query = select(table).order_by(table.c.at.desc(), table.c.id).limit(limit)
        if versions:
            query = query.where(table.c.version_id.in_(versions))
        return [Verdict(**{**row, "passed": bool(row["passed"])}) for row in tx.execute(query).mappings()]
