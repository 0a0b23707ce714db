# SPDX-License-Identifier: Apache-2.0
"""The revision of a database's schema, and the revision that this code needs.

The names of the migrations' files begin with their revisions, in order. So a program that only reads does not
import alembic, whose import takes as long as SQLAlchemy's.
"""

from pathlib import Path

import sqlalchemy as sa

MIGRATIONS = Path(__file__).parent / "migrations"

_TABLE = sa.table("alembic_version", sa.column("version_num"))


def head() -> str:
    """Return the newest revision of the migrations: the one that this code needs."""
    return known()[-1]


def known() -> list[str]:
    """Return the revisions that this code can migrate from, the oldest first."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def current(connection: sa.Connection) -> str | None:
    """Return the revision of a database, None for one without a schema."""
    if not sa.inspect(connection).has_table(_TABLE.name):
        return None
    revision: str | None = connection.execute(sa.select(_TABLE)).scalar_one_or_none()
    return revision
