# SPDX-License-Identifier: Apache-2.0
"""Runs the migrations on the connection that `sync_schema` passes."""

from alembic import context

from tracker_worker.db.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
