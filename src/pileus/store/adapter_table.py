"""The statements of adapters that are served. Every method runs inside a transaction that the caller opened.

Whatever writes a row here has it served: the acts of operators, or a job as it ends (`JobService.on_ended`).
"""

from msgspec import Struct, structs
from sqlalchemy import Connection, delete, func, insert, select, update

from pileus.store import schema


class StoredAdapter(Struct, frozen=True, kw_only=True):
    """An adapter that every replica of a deployment shall have, as `deployment:name`."""

    deployment: str
    name: str
    artefact: str  # its name in the models folder
    tenant: str = ""  # who may use it; empty is everybody
    created_at: float
    created_by: str  # key id


class AdapterTable:
    """By deployment and name."""

    def all(self, tx: Connection) -> list[StoredAdapter]:
        """By deployment, then by name."""
        table = schema.adapter
        query = select(table).order_by(table.c.deployment, table.c.name)
        return [StoredAdapter(**row) for row in tx.execute(query).mappings()]

    def stamp(self, tx: Connection) -> tuple[int, float]:
        """Another one after each row that is put in."""
        table = schema.adapter
        count, latest = tx.execute(select(func.count(), func.max(table.c.created_at)).select_from(table)).one()
        return count, latest or 0.0

    def put(self, tx: Connection, row: StoredAdapter) -> None:
        """Insert it, or replace what has its name."""
        table, values = schema.adapter, structs.asdict(row)
        same = (table.c.deployment == row.deployment) & (table.c.name == row.name)
        if not tx.execute(update(table).where(same).values(values)).rowcount:
            tx.execute(insert(table).values(values))

    def delete(self, tx: Connection, deployment: str, name: str) -> bool:
        """Whether there was one."""
        table = schema.adapter
        done = tx.execute(delete(table).where(table.c.deployment == deployment, table.c.name == name))
        return bool(done.rowcount)
