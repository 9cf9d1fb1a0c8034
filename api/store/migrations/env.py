"""What Alembic runs: the connection comes from api.store.upgrade, in a transaction that it ends."""

from __future__ import annotations

from alembic import context

from api.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
