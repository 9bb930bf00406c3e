"""Runs the migrations on the connection that ``Database.migrate`` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from store.models import metadata


def run() -> None:
    """Called by Alembic through the last line of this file."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,
        # SQLite can take back CREATE and ALTER; Alembic thinks it cannot and would commit in between.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
