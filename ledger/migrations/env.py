"""Alembic's environment: it runs on the connection, and in the transaction, of `ledger.migrate`."""

from alembic import context

from ledger.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=True,
    render_as_batch=True,  # SQLite alters a table by copying it
)

with context.begin_transaction():
    context.run_migrations()
