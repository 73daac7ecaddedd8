"""The tables, as the newest migration leaves them. A test holds this file against the migrations.

Wall-clock times are seconds since 1970 UTC; money is integer micro-units.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, text

# The newest migration. Known here, so that a start with a current schema need not load the migration scripts.
HEAD = "0005"

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

# A stored file. Its content is a blob, which is deleted some time after the row is.
file = Table(
    "file",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),  # who stored it
    Column("filename", Text, nullable=False),  # a label; no path is made of it
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),  # in hexadecimal digits
    Column("blob", Text, nullable=False),  # its key in the blob store
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Index("ix_file_tenant_created_at", "tenant", "created_at"),
    Index("ix_file_tenant_bytes", "tenant", "bytes"),
    Index("ix_file_expires_at", "expires_at"),
    Index("ix_file_blob", "blob"),
)

# Where a file that is gone stood in the list, for whoever lists on behind it.
gone_file = Table(
    "gone_file",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("gone_at", Float, nullable=False),
    Index("ix_gone_file_gone_at", "gone_at"),
)

# A file that comes in parts.
upload = Table(
    "upload",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # as announced
    Column("status", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("file_expires_s", Float),  # from its completion
    Column("file_id", Text),  # once it is complete
    Index("ix_upload_tenant_status", "tenant", "status"),
    Index("ix_upload_expires_at", "expires_at"),
)

upload_part = Table(
    "upload_part",
    metadata,
    Column("id", Text, primary_key=True),
    Column("upload_id", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("blob", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_upload_part_upload_id", "upload_id", "bytes"),
    Index("ix_upload_part_blob", "blob"),
)

# What `jobs` knows of a job; `store.job_table.Job` says what each column means.
job = Table(
    "job",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),  # the order of submission
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("spec", LargeBinary, nullable=False),  # JSON, as are `checkpoint` and `result`; empty is none
    Column("needs", Text, nullable=False),  # ids, separated by commas
    Column("blobs", Text, nullable=False),  # keys, separated by commas
    Column("priority", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float),
    Column("state", Text, nullable=False),
    Column("wish", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("ready_at", Float, nullable=False),
    Column("checkpoint", LargeBinary, nullable=False),
    Column("stage", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Index("ix_job_tenant_kind", "tenant", "kind", "sequence"),
    Index("ix_job_state", "state", "kind", "priority", "tenant", "sequence", "ready_at"),
    Index("ix_job_due_at", "due_at", sqlite_where=text("finished_at IS NULL")),
    sqlite_autoincrement=True,
)

# What a job printed.
job_line = Table(
    "job_line",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("job_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("level", Text, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_job_line_job_id", "job_id", "sequence"),
    sqlite_autoincrement=True,
)

# Where a tenant is told of what happened. The secret that signs follows from the pepper and the id: nobody keeps it.
webhook = Table(
    "webhook",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),  # separated by commas
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),  # key id
)

# A version of a model that was made or brought here; `store.version_table.Version` says what each column means.
model_version = Table(
    "model_version",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("number", Integer, nullable=False),  # from 1 on, within the model
    Column("artefact", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("licence", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),  # key id
    Column("job_id", Text, nullable=False),  # that made it; empty is none
    Column("card", LargeBinary, nullable=False),  # JSON
    Column("signature", LargeBinary, nullable=False),  # empty is none
    Index("uq_model_version_model", "model", "number", unique=True),
    Index("ix_model_version_artefact", "artefact"),
)

# A name for a version that may move: of a model, e.g. `production`.
model_alias = Table(
    "model_alias",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version_id", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", Text, nullable=False),  # key id
)

# What was made of what: a kind of thing and its id, twice, and how the one came of the other.
lineage = Table(
    "lineage",
    metadata,
    Column("child_kind", Text, primary_key=True),
    Column("child", Text, primary_key=True),
    Column("parent_kind", Text, primary_key=True),
    Column("parent", Text, primary_key=True),
    Column("relation", Text, primary_key=True),
    Index("ix_lineage_parent", "parent_kind", "parent"),
)

# An adapter that is served as `base:adapter` on every replica of its deployment.
adapter = Table(
    "adapter",
    metadata,
    Column("deployment", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("artefact", Text, nullable=False),
    Column("tenant", Text, nullable=False),  # who may use it; empty is everybody
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),  # key id
)

# A public name whose requests go to one or several deployments, in shares.
traffic = Table(
    "traffic",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("changed_at", Float, nullable=False),
    Column("changed_by", Text, nullable=False),  # key id
)

# What the gate found of a version, as it was signed.
verdict = Table(
    "verdict",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version_id", Text, nullable=False),
    Column("passed", Integer, nullable=False),  # 0 or 1
    Column("at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),  # JSON
    Column("signature", LargeBinary, nullable=False),
    Index("ix_verdict_version_id", "version_id", "at"),
)
