"""Alembic's way in. The caller (monitor.store.database.migrate) hands over its connection and transaction."""

from alembic import context

from monitor.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
