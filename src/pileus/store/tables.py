"""The statements of each table. Every method runs inside a transaction that the caller opened (`store.port.Work`)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from pileus.core.records import USUAL_LANES, AuditEvent, Lane, UsageRecord
from pileus.store import schema


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key as it may be shown: everything but the secret, which nobody keeps."""

    id: str
    name: str
    role: str
    tenant: str
    created_at: float
    created_by: str  # key id of the creator, or "system"
    expires_at: float | None = None
    revoked_at: float | None = None
    token_budget: int | None = None  # prompt and completion tokens over the key's life; None is unlimited
    budget_micros: int | None = None
    lanes: tuple[Lane, ...] = USUAL_LANES  # its requests may use; in the order of `Lane`
    max_priority: int = 0
    weight: float = 1.0  # its tenant has the largest of its keys
    tokens_per_s: float = 0.0  # guaranteed to its tenant in the continuous lane, beside what its other keys bring
    used_tokens: int = 0  # set by `security`, from the ledger
    used_micros: int = 0


class Total(Struct, frozen=True):
    """What a key has used so far."""

    requests: int = 0
    tokens: int = 0
    cost_micros: int = 0


class KeyTable:
    """API keys by id; the digest of the secret is unique."""

    _columns = tuple(column for column in schema.api_key.columns if column.name != "digest")

    def insert(self, tx: Connection, key: ApiKey, digest: bytes) -> None:
        row = {column.name: getattr(key, column.name) for column in self._columns}
        tx.execute(insert(schema.api_key), row | {"lanes": ",".join(key.lanes), "digest": digest})

    def all(self, tx: Connection) -> list[tuple[bytes, ApiKey]]:
        """Every key that was ever made, with its digest, oldest first."""
        rows = tx.execute(select(schema.api_key).order_by(schema.api_key.c.created_at, schema.api_key.c.id)).mappings()
        return [(row["digest"], self._key(row)) for row in rows]

    def _key(self, row: RowMapping) -> ApiKey:
        values = {column.name: row[column.name] for column in self._columns}
        names = values["lanes"].split(",")  # one that only a later Pileus knew is no right here
        return ApiKey(**values | {"lanes": tuple(lane for lane in Lane if lane in names)})

    def set_revoked(self, tx: Connection, key_id: str, at: float) -> None:
        table = schema.api_key
        tx.execute(update(table).where(table.c.id == key_id, table.c.revoked_at.is_(None)).values(revoked_at=at))


class UsageTable:
    """One row for each finished request, and the sums for each key."""

    def insert(self, tx: Connection, batch: str, records: Sequence[UsageRecord]) -> None:
        """Write a batch, once: repeating the last batch changes nothing."""
        if self._last_batch(tx) == batch:
            return
        tx.execute(insert(schema.usage), [structs.asdict(record) for record in records])
        self._add_totals(tx, records)
        marker = schema.usage_marker
        if not tx.execute(update(marker).values(batch=batch)).rowcount:
            tx.execute(insert(marker).values(id=1, batch=batch))

    def totals(self, tx: Connection) -> Mapping[str, Total]:
        """What each key has used so far."""
        return {
            row.key_id: Total(row.requests, row.tokens, row.cost_micros)
            for row in tx.execute(select(schema.usage_total))
        }

    def after(self, tx: Connection, sequence: int, limit: int) -> list[tuple[int, UsageRecord]]:
        """Rows with their sequence numbers, from the first after that one on, oldest first."""
        table = schema.usage
        query = select(table).where(table.c.sequence > sequence).order_by(table.c.sequence).limit(limit)
        return [
            (row["sequence"], UsageRecord(**{**_fields(row, UsageRecord), "lane": Lane(row["lane"])}))
            for row in tx.execute(query).mappings()
        ]

    def _last_batch(self, tx: Connection) -> str | None:
        return tx.execute(select(schema.usage_marker.c.batch)).scalar()

    def _add_totals(self, tx: Connection, records: Iterable[UsageRecord]) -> None:
        added: defaultdict[str, Total] = defaultdict(Total)
        for record in records:
            old = added[record.key_id]
            tokens = record.prompt_tokens + record.completion_tokens
            added[record.key_id] = Total(old.requests + 1, old.tokens + tokens, old.cost_micros + record.cost_micros)
        table = schema.usage_total
        for key_id, more in added.items():
            change = {name: table.c[name] + value for name, value in structs.asdict(more).items()}
            if not tx.execute(update(table).where(table.c.key_id == key_id).values(change)).rowcount:
                tx.execute(insert(table).values(key_id=key_id, **structs.asdict(more)))


class AuditTable:
    """Administrative acts and refusals, in the order in which they were written."""

    def insert(self, tx: Connection, events: Sequence[AuditEvent]) -> None:
        tx.execute(insert(schema.audit), [structs.asdict(event) for event in events])

    def latest(self, tx: Connection, limit: int, action: str | None = None) -> list[tuple[int, AuditEvent]]:
        """The newest events with their sequence numbers, newest first."""
        table = schema.audit
        query = select(table).order_by(table.c.sequence.desc()).limit(limit)
        if action is not None:
            query = query.where(table.c.action == action)
        return [(row["sequence"], AuditEvent(**_fields(row, AuditEvent))) for row in tx.execute(query).mappings()]


class StoredDeployment(Struct, frozen=True):
    """A deployment that was made at run time; `body` is its settings as JSON, which only `fleet` reads."""

    name: str
    body: str
    changed_at: float
    changed_by: str


class DeploymentTable:
    """What was deployed at run time, by name."""

    def all(self, tx: Connection) -> list[StoredDeployment]:
        """By name."""
        table = schema.deployment
        return [StoredDeployment(**row) for row in tx.execute(select(table).order_by(table.c.name)).mappings()]

    def put(self, tx: Connection, row: StoredDeployment) -> None:
        """Insert it, or replace what has its name."""
        table, values = schema.deployment, structs.asdict(row)
        if not tx.execute(update(table).where(table.c.name == row.name).values(values)).rowcount:
            tx.execute(insert(table).values(values))

    def delete(self, tx: Connection, name: str) -> None:
        tx.execute(delete(schema.deployment).where(schema.deployment.c.name == name))


def _fields(row: RowMapping, kind: type[Struct]) -> dict[str, Any]:
    return {name: row[name] for name in kind.__struct_fields__}
