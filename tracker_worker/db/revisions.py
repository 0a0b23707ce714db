# SPDX-License-Identifier: Apache-2.0
"""The revision of a database's schema, and the revision that this code needs."""

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tracker_worker.db.engine import alembic_config


def head() -> str:
    """Return the newest revision of the migrations: the one that this code needs."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision is not None
    return revision


def known() -> list[str]:
    """Return the revisions that this code can migrate from."""
    return [each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


def current(connection: sa.Connection) -> str | None:
    """Return the revision of a database, None for one without a schema."""
    return MigrationContext.configure(connection).get_current_revision()
