"""API keys, usage and audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_keys()
    _create_usage()
    _create_audit()


def _create_keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
        sa.Column("token_budget", sa.BigInteger),
        sa.Column("budget_micros", sa.BigInteger),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
    )


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("request_id", "key_id", "tenant", "deployment", "lane", "outcome")
        ),
        sa.Column("at", sa.Float, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_micros")
        ),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("queue_s", "prefill_s", "decode_s", "total_s")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_usage_key_id_at", "usage", ["key_id", "at"])
    op.create_table(
        "usage_total",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "usage_marker",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("batch", sa.Text, nullable=False),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("actor", "tenant", "action", "target", "outcome", "request_id")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_action_sequence", "audit", ["action", "sequence"])
