"""Run by Alembic: applies the migrations on the connection that `store.migrate` hands over, in its transaction."""

from alembic import context

from pileus.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite's DDL is transactional once the driver's own BEGIN handling is off
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
