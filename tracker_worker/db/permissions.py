# SPDX-License-Identifier: Apache-2.0
"""What the user of a database may do, found out by doing it to no row: a server looks at rights first."""

import sqlalchemy as sa

from tracker_worker.db.tables import METADATA


def try_writing(engine: sa.Engine) -> None:
    """Insert, update and delete no row of each table, and take the next number where rows are numbered.

    Raises what the database says: a right is missing, it is read-only, or a table is not as it should be.
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
