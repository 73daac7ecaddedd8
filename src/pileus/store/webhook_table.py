"""The statements of webhooks. Every method runs inside a transaction that the caller opened."""

from msgspec import Struct, structs
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from pileus.store import schema


class Webhook(Struct, frozen=True, kw_only=True):
    """Where a tenant is told of what happened."""

    id: str
    tenant: str
    url: str
    events: tuple[str, ...]  # types of events that it is told of
    created_at: float
    created_by: str  # key id


class WebhookTable:
    """Webhooks by id; a tenant has one for an address."""

    def all(self, tx: Connection) -> list[Webhook]:
        """The oldest first."""
        table = schema.webhook
        return [_webhook(row) for row in tx.execute(select(table).order_by(table.c.created_at, table.c.id)).mappings()]

    def of(self, tx: Connection, tenant: str) -> list[Webhook]:
        """A tenant's, the oldest first."""
        table = schema.webhook
        query = select(table).where(table.c.tenant == tenant).order_by(table.c.created_at, table.c.id)
        return [_webhook(row) for row in tx.execute(query).mappings()]

    def get(self, tx: Connection, webhook_id: str) -> Webhook | None:
        table = schema.webhook
        row = tx.execute(select(table).where(table.c.id == webhook_id)).mappings().first()
        return None if row is None else _webhook(row)

    def put(self, tx: Connection, webhook: Webhook) -> None:
        """Insert it, or replace what has its id."""
        table, values = schema.webhook, structs.asdict(webhook) | {"events": ",".join(webhook.events)}
        if not tx.execute(update(table).where(table.c.id == webhook.id).values(values)).rowcount:
            tx.execute(insert(table).values(values))

    def delete(self, tx: Connection, webhook_id: str) -> None:
        tx.execute(delete(schema.webhook).where(schema.webhook.c.id == webhook_id))


def _webhook(row: RowMapping) -> Webhook:
    return Webhook(**{**row, "events": tuple(filter(None, row["events"].split(",")))})
