# SPDX-License-Identifier: Apache-2.0
"""Checks the privileges of the database user with statements that affect no row."""

import sqlalchemy as sa

from tracker_worker.db.tables import METADATA


def try_writing(engine: sa.Engine) -> None:
    """Execute an insert, update and delete of no row on each table, and use each sequence of PostgreSQL.

    Raises the database's error: a privilege is missing, the database is read-only, or a table differs.
    """
    with engine.connect() as connection, connection.begin() as transaction:
        for table in METADATA.sorted_tables:
            columns = {column.name: column for column in table.columns}
            nothing = sa.select(table).where(sa.false())
            connection.execute(sa.insert(table).from_select(list(columns), nothing))
            connection.execute(sa.update(table).where(sa.false()).values(columns))
            connection.execute(sa.delete(table).where(sa.false()))
            number = table.autoincrement_column
            if number is not None and engine.dialect.name == "postgresql":
                sequence = sa.func.pg_get_serial_sequence(table.name, number.name)
                connection.execute(sa.select(sa.func.nextval(sequence)))
        transaction.rollback()
