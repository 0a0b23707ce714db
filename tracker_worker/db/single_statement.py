# SPDX-License-Identifier: Apache-2.0
"""An update of one row and inserts that depend on it, as one statement of PostgreSQL: one round trip.

PostgreSQL does not say in which order it executes the parts of a WITH. Here each insert selects its values
from what the part before it returns: they are executed in the order given, and each only if the update has
found its row, and locked it.
"""

from collections.abc import Sequence
from functools import cache

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.bulk import Row, on_conflict_update


class Insert(Struct, frozen=True):
    """The insert of one row. `replaces`: a row with the same primary key is overwritten, and is no error."""

    table: sa.Table
    columns: tuple[str, ...]
    replaces: bool = False


def update_and_insert(
    connection: sa.Connection, update: sa.Update, row: Row, inserts: Sequence[tuple[Insert, Row]]
) -> bool:
    """Update one row, then insert a row into each of some tables; tell whether there was a row to update.

    Nothing is inserted unless there was. `row` has the parameters of the update. Runs on the connection's
    thread and raises what the connection raises.
    """
    parameters = dict(row)
    for insert, values in inserts:
        parameters |= {_parameter(insert, column): values[column] for column in insert.columns}
    statement = _statement(update, tuple(insert for insert, _ in inserts))
    return connection.execute(statement, parameters).first() is not None


@cache
def _statement(update: sa.Update, inserts: tuple[Insert, ...]) -> sa.Select[tuple[int]]:
    """Return the statement: one text for each combination of tables."""
    done = sa.literal(1).label("done")
    updated = part = update.returning(done).cte("updated")
    for insert in inserts:
        part = _insert_after(part, insert).returning(done).cte(f"inserted_{insert.table.name}")
    return sa.select(updated.c.done).add_cte(part)


def _insert_after(part: sa.CTE, insert: Insert) -> sa.Insert:
    table, names = insert.table, insert.columns
    values = [sa.bindparam(_parameter(insert, name), type_=table.c[name].type) for name in names]
    query = sa.select(*values).select_from(part)
    if insert.replaces:
        query = query.suffix_with(on_conflict_update(table, names))
    return sa.insert(table).from_select(names, query)


def _parameter(insert: Insert, column: str) -> str:
    return f"{insert.table.name}_{column}"
