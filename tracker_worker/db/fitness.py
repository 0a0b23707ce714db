# SPDX-License-Identifier: Apache-2.0
"""Whether this code can use a database as it is: its encoding, and its schema's revision."""

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
    """A database that cannot be used as it is; the text is one line that says why, and the way out."""


def check(connection: sa.Connection) -> None:
    """Raise UnfitDatabase unless the encoding is UTF-8 and the schema is at the revision of this code."""
    check_before_migration(connection)
    found = revisions.current(connection)
    if found != revisions.head():
        raise UnfitDatabase(
            f"its schema is {found or 'missing'}, this version needs {revisions.head()}: run "
            "'tracker-worker-manage db sync'"
        )


def check_before_migration(connection: sa.Connection) -> None:
    """Raise UnfitDatabase where a migration would not help: another encoding, or a newer schema."""
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


def _check_postgresql_encoding(connection: sa.Connection) -> None:
    """A text that the encoding lacks parks its event, and keeps the dead letter, which has it too, out."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != _UTF8:
        raise UnfitDatabase(
            f"its server_encoding is {encoding}, which cannot be changed: make a database with ENCODING "
            f"'{_UTF8}' TEMPLATE template0, and move the rows there with pg_dump"
        )


def _check_mariadb_encoding(connection: sa.Connection) -> None:
    """The database's default has no effect on our tables: their columns count."""
    values = {"tables": list(METADATA.tables), "charset": _CHARSET}
    found = connection.execute(_OTHER_COLUMNS, values).first()
    if found is not None:
        table, column, charset = found
        raise UnfitDatabase(
            f"the character set of {table}.{column} is {charset}: stop all workers and run ALTER TABLE "
            f"{table} CONVERT TO CHARACTER SET {_CHARSET} COLLATE {_COLLATION}"
        )
