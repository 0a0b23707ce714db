# SPDX-License-Identifier: Apache-2.0
"""Checks that the code can use a database: its encoding, and the revision of its schema."""

import sqlalchemy as sa

from tracker_worker.db import revisions
from tracker_worker.db.tables import MARIADB, METADATA

_UTF8 = "UTF8"
_CHARSET = MARIADB["mysql_default_charset"]
_COLLATION = MARIADB["mysql_collate"]
_OTHER_COLUMNS = sa.text(
    "SELECT table_name, column_name, character_set_name FROM information_schema.columns "
    "WHERE table_schema = DATABASE() AND table_name IN :tables AND character_set_name <> :charset "
    "ORDER BY table_name, ordinal_position"
).bindparams(sa.bindparam("tables", expanding=True))


class UnfitDatabase(Exception):
    """The database cannot be used as it is. The text is one line with the reason and the remedy."""


def check(connection: sa.Connection) -> None:
    """Raise UnfitDatabase unless the encoding is UTF-8 and the schema is at the revision of this code."""
    found = check_before_migration(connection)
    if found != revisions.head():
        raise UnfitDatabase(
            f"its schema is {found or 'missing'}, this version needs {revisions.head()}: run "
            "'tracker-worker-manage db sync'"
        )


def check_before_migration(connection: sa.Connection) -> str | None:
    """Return the revision of the schema, None if there is none.

    Raises UnfitDatabase if a migration cannot help: the encoding is not UTF-8, or the schema is newer.
    """
    if connection.dialect.name == "postgresql":
        _check_postgresql_encoding(connection)
    elif connection.dialect.name == "mysql":
        _check_mariadb_encoding(connection)
    found = revisions.current(connection)
    if found is not None and found not in revisions.known():
        raise UnfitDatabase(
            f"its schema is {found}, newer than {revisions.head()}, the last that this version knows, and "
            "there is no way back: install the version that has made it"
        )
    return found


def _check_postgresql_encoding(connection: sa.Connection) -> None:
    """Refuse other encodings: neither an event with a text they lack, nor its dead letter, can be stored."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != _UTF8:
        raise UnfitDatabase(
            f"its server_encoding is {encoding}, which cannot be changed: make a database with ENCODING "
            f"'{_UTF8}' TEMPLATE template0, and move the rows there with pg_dump"
        )


def _check_mariadb_encoding(connection: sa.Connection) -> None:
    """Check the columns, since the default character set of the database has no effect on existing tables."""
    values = {"tables": list(METADATA.tables), "charset": _CHARSET}
    found = connection.execute(_OTHER_COLUMNS, values).first()
    if found is not None:
        table, column, charset = found
        raise UnfitDatabase(
            f"the character set of {table}.{column} is {charset}: stop all workers and run ALTER TABLE "
            f"{table} CONVERT TO CHARACTER SET {_CHARSET} COLLATE {_COLLATION}"
        )
