# SPDX-License-Identifier: Apache-2.0
"""MariaDB's statements for any number of ids or rows, which JSON_TABLE reads from one JSON parameter.

STRAIGHT_JOIN makes MariaDB read the parameter first, in its order; FORCE INDEX makes it look up each row by
the key. Otherwise the optimizer scans, and locks, the whole of a table that it takes for small. For UPDATE or
DELETE with IN (SELECT ...) a scan is its only plan.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.sql.schema import ColumnElementColumnDefault

_DIALECT = mysql.dialect()

# Without an explicit character set a column has the database's, which may lack characters. A shorter or
# narrower type would silently truncate values; with these types the columns of the tables refuse them.
_COLLATED = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
_TEXT = f"LONGTEXT {_COLLATED}"
_UUID = f"VARCHAR(36) {_COLLATED}"
_NUMBER = "DECIMAL(65)"


def elements(parameter: str) -> str:
    """Return the elements of a JSON list as a table of one column, `value`."""
    return f"JSON_TABLE({parameter}, '$[*]' COLUMNS (value {_TEXT} PATH '$'))"


def uuids(parameter: str) -> str:
    """Return the uuids of a JSON list as a table of one column, `value`.

    With NOT IN, MariaDB keeps these in memory, but parses the list of `elements` again for each row.
    """
    return f"JSON_TABLE({parameter}, '$[*]' COLUMNS (value {_UUID} PATH '$'))"


def use_index(key: sa.Column[Any]) -> str:
    """Return the hint to use the index that begins with a column."""
    return f"FORCE INDEX ({'PRIMARY' if key.primary_key else f'uq_{_table(key)}_{key.name}'})"


def insert(table: sa.Table, columns: Mapping[str, sa.Column[Any]]) -> sa.TextClause:
    """Return the insert of the parameter `rows` with these columns; other columns get their defaults."""
    values = {name: _value(name, column) for name, column in columns.items()}
    values |= {
        column.name: _sql(column.default.arg)
        for column in table.columns
        if column.name not in columns and isinstance(column.default, ColumnElementColumnDefault)
    }
    names = ", ".join(map(_quoted, values))
    return sa.text(
        f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values.values())} FROM {_rows(columns)}"  # noqa: S608
    )


def upsert(table: sa.Table, columns: Mapping[str, sa.Column[Any]]) -> sa.TextClause:
    """Return the insert of the parameter `rows` that updates a row with the same primary key."""
    others = (_quoted(name) for name, column in columns.items() if not column.primary_key)
    updated = ", ".join(f"{name} = VALUES({name})" for name in others)
    return sa.text(f"{insert(table, columns)} ON DUPLICATE KEY UPDATE {updated}")


def update(
    table: sa.Table, keys: Mapping[str, sa.Column[Any]], columns: Mapping[str, sa.Column[Any]]
) -> sa.TextClause:
    """Return the update of columns by the parameter `rows`, in the rows whose columns equal their `keys`."""
    values = ", ".join(f"{_column(column)} = {_value(name, column)}" for name, column in columns.items())
    joined = f"{_rows({**keys, **columns})} STRAIGHT_JOIN {_indexed(keys)} ON {_matches(keys)}"
    return sa.text(f"UPDATE {joined} SET {values}")  # noqa: S608


def delete(table: sa.Table, keys: Mapping[str, sa.Column[Any]]) -> sa.TextClause:
    """Return the delete by the parameter `rows` of the rows whose columns equal their `keys`."""
    joined = f"{_rows(keys)} STRAIGHT_JOIN {_indexed(keys)} ON {_matches(keys)}"
    return sa.text(f"DELETE {table.name} FROM {joined}")  # noqa: S608


def update_ids(key: sa.Column[Any], values: Mapping[str, sa.ColumnElement[Any]]) -> sa.TextClause:
    """Return the update of the rows whose key is among the parameter `ids`."""
    table = key.table
    settings = ", ".join(f"{_column(table.c[name])} = {_sql(value)}" for name, value in values.items())
    return sa.text(f"UPDATE {_joined_ids(key)} SET {settings}")  # noqa: S608


def delete_ids(key: sa.Column[Any]) -> sa.TextClause:
    """Return the delete of the rows whose key is among the parameter `ids`."""
    return sa.text(f"DELETE {_table(key)} FROM {_joined_ids(key)}")  # noqa: S608


def _joined_ids(key: sa.Column[Any]) -> str:
    path = f"'$[*]' COLUMNS (value {_type(key)} PATH '$')"
    return (
        f"JSON_TABLE(:ids, {path}) AS r STRAIGHT_JOIN {_indexed({'value': key})} ON {_column(key)} = r.value"
    )


def _indexed(keys: Mapping[str, sa.Column[Any]]) -> str:
    first = next(iter(keys.values()))
    return f"{_table(first)} {use_index(first)}"


def _rows(columns: Mapping[str, sa.Column[Any]]) -> str:
    fields = (f"{_quoted(name)} {_type(column)} PATH '$.{name}'" for name, column in columns.items())
    return f"JSON_TABLE(:rows, '$[*]' COLUMNS ({', '.join(fields)})) AS r"


def _type(column: sa.Column[Any]) -> str:
    if isinstance(column.type, sa.Integer):
        return _NUMBER
    if isinstance(column.type, sa.String | sa.JSON | sa.LargeBinary):
        return _TEXT
    return column.type.compile(_DIALECT)


def _value(name: str, column: sa.Column[Any]) -> str:
    field = f"r.{_quoted(name)}"
    return f"FROM_BASE64({field})" if isinstance(column.type, sa.LargeBinary) else field


def _matches(keys: Mapping[str, sa.Column[Any]]) -> str:
    return " AND ".join(f"{_column(column)} = r.{_quoted(name)}" for name, column in keys.items())


def _sql(value: sa.ColumnElement[Any] | sa.TextClause) -> str:
    return str(value.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))


def _table(column: sa.Column[Any]) -> str:
    table = column.table
    assert isinstance(table, sa.Table)
    return table.name


def _column(column: sa.Column[Any]) -> str:
    return f"{_table(column)}.{_quoted(column.name)}"


def _quoted(name: str) -> str:
    return _DIALECT.identifier_preparer.quote(name)
