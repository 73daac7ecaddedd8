"""The tables, as the newest migration leaves them. A test holds this file against the migrations.

Wall-clock times are seconds since 1970 UTC; money is integer micro-units.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text

# The newest migration. Known here, so that a start with a current schema need not load the migration scripts.
HEAD = "0003"

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # HMAC-SHA-256 of the secret; never the secret
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("token_budget", BigInteger),
    Column("budget_micros", BigInteger),
    Column("lanes", Text, nullable=False, server_default="on_demand,batch"),  # separated by commas
    Column("max_priority", Integer, nullable=False, server_default=text("0")),
    Column("weight", Float, nullable=False, server_default=text("1")),
    Column("tokens_per_s", Float, nullable=False, server_default=text("0")),
)

usage = Table(
    "usage",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("request_id", Text, nullable=False),  # may be the client's own, so it need not be unique
    Column("key_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("queue_s", Float, nullable=False),
    Column("prefill_s", Float, nullable=False),
    Column("decode_s", Float, nullable=False),
    Column("total_s", Float, nullable=False),
    Index(None, "key_id", "at"),
    sqlite_autoincrement=True,
)

# Sums of `usage` for each key, kept in the same transaction, so that a start need not read every row.
usage_total = Table(
    "usage_total",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
)

# One row: the last batch of usage that arrived, so that a batch whose commit was in doubt is not counted twice.
usage_marker = Table(
    "usage_marker",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("batch", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),  # the order of events; clocks may jump
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Index(None, "action", "sequence"),
    sqlite_autoincrement=True,
)

# What was deployed at run time, as its settings would say it; what `pileus.toml` names is not here.
deployment = Table(
    "deployment",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", Text, nullable=False),  # JSON
    Column("changed_at", Float, nullable=False),
    Column("changed_by", Text, nullable=False),  # key id
)
