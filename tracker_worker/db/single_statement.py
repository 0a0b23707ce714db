# SPDX-License-Identifier: Apache-2.0
"""An update of one row and inserts that depend on it, as one statement of PostgreSQL: one round trip.

Each insert selects its values from the result of the update: it inserts nothing where the update finds no
row, and draws its generated id once the row is locked.
"""

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa

from tracker_worker.db.bulk import Bulk, Insert, Row


def update_and_insert(
    connection: sa.Connection, update: Bulk, found_by: Row, inserts: Sequence[tuple[Insert, Row]]
) -> bool:
    """Update one row, and insert a row into each of some tables; tell whether there was a row to update.

    Nothing is inserted unless there was. Runs on the connection's thread, and raises what it raises.
    """
    parameters = dict(found_by)
    for insert, row in inserts:
        parameters |= {_parameter(insert, column): row[column] for column in insert.columns}
    statement = _statement(update, tuple(insert for insert, _ in inserts))
    return connection.execute(statement, parameters).first() is not None


@cache
def _statement(update: Bulk, inserts: tuple[Insert, ...]) -> sa.Select[tuple[int]]:
    """Return the statement: one text for each combination of tables."""
    assert isinstance(update.each, sa.Update)
    updated = update.each.returning(sa.literal(1).label("found")).cte("updated")
    inserted = [_insert_after(updated, insert).cte(f"inserted_{insert.table.name}") for insert in inserts]
    return sa.select(updated.c.found).add_cte(*inserted)


def _insert_after(updated: sa.CTE, insert: Insert) -> sa.Insert:
    columns = insert.columns.items()
    values = [sa.bindparam(_parameter(insert, name), type_=column.type) for name, column in columns]
    query = sa.select(*values).select_from(updated)
    return sa.insert(insert.table).from_select(list(insert.columns), query)


def _parameter(insert: Insert, column: str) -> str:
    return f"{insert.table.name}_{column}"
