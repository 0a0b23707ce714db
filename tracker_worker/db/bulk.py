# SPDX-License-Identifier: Apache-2.0
"""Statements of constant text for any number of ids or rows, and their differences between databases.

A list of ids is one JSON parameter. Rows go to SQLite with executemany, which is the fastest in process. Rows
go to a server as one JSON parameter: that takes one round trip, and a fifth of the client's CPU time that
executemany or arrays take. A single row goes to PostgreSQL as plain parameters: the server plans each
statement anew, and parses and plans this one in less than half of the time.

PostgreSQL's planner estimates 100 rows for any JSON list, and rather scans a table of some megabytes than
look up so many. A LIMIT of as many rows as there are corrects the estimate.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import sqlalchemy as sa
from msgspec import json
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tracker_worker.db import json_table
from tracker_worker.db.sessions import MAX_PACKET

Row = Mapping[str, Any]

_STATEMENT_BYTES = 16 * 1024
"""Upper bound for the length of a statement without its rows."""
_ESCAPED = "'"
"""The character that PyMySQL doubles: sessions have NO_BACKSLASH_ESCAPES."""
_ALWAYS = sa.text("1 = 1")


class RowsTooLarge(Exception):
    """The statement with these rows is longer than the server accepts. Fewer rows at once may fit.

    The text contains no value of a row.
    """


class _Elements(FunctionElement[str]):
    """The elements of a JSON list, so many, as rows of one column, `value`."""

    name = "elements"
    inherit_cache = True


@compiles(_Elements)
def _elements_in_sqlite(element: _Elements, compiler: SQLCompiler, **how: Any) -> str:
    ids, _ = element.clauses
    return f"json_each({compiler.process(ids, **how)})"


@compiles(_Elements, "postgresql")
def _elements_in_postgresql(element: _Elements, compiler: SQLCompiler, **how: Any) -> str:
    ids, count = (compiler.process(clause, **how) for clause in element.clauses)
    return f"(SELECT value FROM json_array_elements_text(CAST({ids} AS json)) LIMIT {count})"  # noqa: S608


@compiles(_Elements, "mysql")
def _elements_in_mariadb(element: _Elements, compiler: SQLCompiler, **how: Any) -> str:
    ids, _ = element.clauses
    return json_table.elements(compiler.process(ids, **how))


class _Uuids(_Elements):
    """The elements of a JSON list of uuids; an element may be as long as a uuid at most."""

    inherit_cache = True


@compiles(_Uuids, "mysql")
def _uuids_in_mariadb(element: _Uuids, compiler: SQLCompiler, **how: Any) -> str:
    ids, _ = element.clauses
    return json_table.uuids(compiler.process(ids, **how))


_COUNT = sa.bindparam("row_count", type_=sa.Integer)
_IDS = (sa.bindparam("ids", type_=sa.Text), _COUNT)
IDS = _Elements(*_IDS).table_valued("value")
"""The texts in the parameter `ids` as rows of one column, `value`."""
TEXT_IDS = sa.select(IDS.c.value)
"""The texts in the parameter `ids`, for `IN` where no index is needed; `as_ids` makes the parameter."""
UUID_IDS = sa.select(_Uuids(*_IDS).table_valued("value").c.value)
"""The same, for uuids and `NOT IN`."""


def as_ids(ids: Iterable[str]) -> dict[str, str | int]:
    """Return ids as one JSON parameter, so that the statement's text does not depend on their number."""
    listed = list(ids)
    return {"ids": json.encode(listed).decode(), _COUNT.key: len(listed)}


def select(key: sa.Column[str], *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return the query for the given columns, or all columns, of the rows whose key is among `ids`.

    An id that is given twice returns its row twice.
    """
    table = key.table
    query = sa.select(*(columns or (table,))).select_from(IDS.join(table, key == IDS.c.value))
    # With outdated statistics MariaDB takes the table for small, and would scan it.
    return query.prefix_with("STRAIGHT_JOIN", dialect="mysql").with_hint(
        table, json_table.use_index(key), "mysql"
    )


class ByIds:
    """An update or delete of the rows whose key is among some ids.

    `execute` runs on the connection's thread and raises what the connection raises.
    """

    def __init__(self, among: sa.Executable, joined: sa.Executable) -> None:
        self.among = among
        self.joined = joined

    def execute(self, connection: sa.Connection, ids: Iterable[str]) -> None:
        """Execute the statement for any number of ids."""
        statement = self.joined if connection.dialect.name == "mysql" else self.among
        connection.execute(statement, as_ids(ids))


def update_ids(key: sa.Column[str], **values: sa.ColumnElement[Any]) -> ByIds:
    """Return the update of the rows whose key is among `ids`."""
    return ByIds(
        sa.update(key.table).where(key.in_(TEXT_IDS)).values(values),
        json_table.update_ids(key, values),
    )


def delete_ids(key: sa.Column[str]) -> ByIds:
    """Return the delete of the rows whose key is among `ids`."""
    return ByIds(sa.delete(key.table).where(key.in_(TEXT_IDS)), json_table.delete_ids(key))


class Bulk:
    """A statement for many rows: `each` for SQLite, and for a single row on PostgreSQL, `at_once` for more
    rows there, and `joined` for MariaDB.

    `execute` runs on the connection's thread and raises what the connection raises, and RowsTooLarge.
    """

    def __init__(
        self,
        each: sa.Executable,
        at_once: sa.Executable,
        joined: sa.Executable,
        columns: Mapping[str, sa.Column[Any]],
        order: str | None = None,
    ) -> None:
        self.each = each
        self.at_once = at_once
        self.joined = joined
        self._order = order
        self._json = [name for name, column in columns.items() if isinstance(column.type, sa.JSON)]
        self._bytes = [name for name, column in columns.items() if isinstance(column.type, sa.LargeBinary)]

    def execute(self, connection: sa.Connection, rows: Sequence[Row]) -> int:
        """Execute the statement for one row or more; return how many rows an update or a delete found."""
        result: sa.CursorResult[Any]
        if connection.dialect.name == "sqlite":
            result = connection.execute(self.each, rows)
        elif connection.dialect.name == "mysql":
            result = connection.execute(self.joined, {"rows": self._fitting(connection, rows)})
        elif len(rows) == 1:
            result = connection.execute(self.each, rows[0])
        else:
            plain, concatenated = self.without_bytes(rows)
            parameters = {"rows": self._encode(plain), _COUNT.key: len(rows), **concatenated}
            result = connection.execute(self.at_once, parameters)
        return result.rowcount

    def without_bytes(self, rows: Sequence[Row]) -> tuple[Sequence[Row], dict[str, bytes]]:
        """Return rows with the length of their bytes in place of the bytes and where these begin, from 1; and
        the bytes of each column, concatenated: further parameters of `at_once`.
        """
        concatenated = {}
        for name in self._bytes:
            values = [row[name] for row in rows]
            concatenated[_concatenated(name)] = b"".join(values)
            lengths = list(map(len, values))
            starts = accumulate(lengths, initial=1)
            rows = [
                {**row, name: length, _start(name): start}
                for row, length, start in zip(rows, lengths, starts, strict=False)
            ]
        return rows, concatenated

    def _fitting(self, connection: sa.Connection, rows: Sequence[Row]) -> str:
        """Return rows as JSON, in the order in which MariaDB locks them. Raises RowsTooLarge.

        MariaDB closes the connection at a packet that is too long. The client could not distinguish that from
        a server that is down.
        """
        if order := self._order:
            rows = sorted(rows, key=lambda row: row[order])
        encoded = self._encode(rows)
        most = connection.info[MAX_PACKET] - _STATEMENT_BYTES
        if 4 * len(encoded) > most:  # A character takes at most four bytes, an escaped one two.
            size = len(encoded.encode()) + encoded.count(_ESCAPED)
            if size > most:
                raise RowsTooLarge(f"{len(rows)} rows are {size} bytes, {MAX_PACKET} leaves {most}: raise it")
        return encoded

    def _encode(self, rows: Sequence[Row]) -> str:
        """Return rows as JSON; values of JSON columns are encoded once more, as strings.

        Otherwise PostgreSQL would decode the escapes inside these values, and its texts cannot hold a NUL.
        MariaDB parses JSON to 32 levels only.
        """
        if self._json:
            rows = [{**row, **{name: _text(row[name]) for name in self._json}} for row in rows]
        return json.encode(rows).decode()


def insert(table: sa.Table, columns: Iterable[str]) -> Bulk:
    """Return the insert of rows with these columns; generated ids follow the order of the rows.

    Other columns get their defaults, which may be the database's clock.
    """
    names = {name: table.c[name] for name in columns}
    rows = _recordset(names)
    query = sa.select(*(_value(rows, name, column) for name, column in names.items()))
    at_once = sa.insert(table).from_select(list(names), query)
    # Not inline, a single row would return its generated id.
    return Bulk(sa.insert(table).inline(), at_once, json_table.insert(table, names), names)


def upsert(table: sa.Table, columns: Iterable[str]) -> Bulk:
    """Return the insert of rows with these columns that updates a row with the same primary key."""
    names = {name: table.c[name] for name in columns}
    rows = _recordset(names)
    # SQLite needs the condition: without it, it would take ON CONFLICT for that of a join.
    one = sa.select(*(sa.bindparam(name, type_=c.type) for name, c in names.items())).where(_ALWAYS)
    many = sa.select(*(_value(rows, name, column) for name, column in names.items()))
    each, at_once = (
        sa.insert(table).from_select(list(names), query.suffix_with(on_conflict_update(table, names)))
        for query in (one, many)
    )
    return Bulk(each, at_once, json_table.upsert(table, names), names)


def on_conflict_update(table: sa.Table, columns: Iterable[str]) -> sa.TextClause:
    """Return the clause behind an insert that updates these columns of a row with the same primary key, for
    SQLite and PostgreSQL.

    It is a text: SQLAlchemy 2.0 compiles the dialects' own inserts anew each time.
    """
    key = ", ".join(table.primary_key.columns.keys())
    others = ", ".join(f"{name} = excluded.{name}" for name in columns if not table.c[name].primary_key)
    return sa.text(f"ON CONFLICT ({key}) DO UPDATE SET {others}")


def update(table: sa.Table, by: Sequence[str], columns: Iterable[str], *, locked: bool = False) -> Bulk:
    """Return the update of columns in the rows whose columns `by` equal a row's fields of the prefix `b_`.

    `locked`: rows are locked in the order of the first column of `by`, so that two writers cannot deadlock.
    """
    names = {name: table.c[name] for name in columns}
    keys = {f"b_{name}": table.c[name] for name in by}
    each = sa.update(table).values({name: sa.bindparam(name) for name in names})
    rows: sa.FromClause = _recordset(keys | names)
    first, column = next(iter(keys.items()))
    if locked:
        # UPDATE ... FROM would lock rows in the order of its join, which is not defined.
        query = sa.select(rows).join(table, column == rows.c[first]).order_by(column)
        rows = query.with_for_update(of=table).cte("locked")
    at_once = sa.update(table).values({name: _value(rows, name, column) for name, column in names.items()})
    at_once = at_once.where(*(column == rows.c[name] for name, column in keys.items()))
    joined = json_table.update(table, keys, names)
    return Bulk(each.where(*_matches(keys)), at_once, joined, names, first if locked else None)


def delete(table: sa.Table, by: Sequence[str]) -> Bulk:
    """Return the delete of the rows whose columns `by` equal a row's fields of the prefix `b_`."""
    keys = {f"b_{name}": table.c[name] for name in by}
    rows = _recordset(keys)
    at_once = sa.delete(table).where(*(column == rows.c[name] for name, column in keys.items()))
    return Bulk(sa.delete(table).where(*_matches(keys)), at_once, json_table.delete(table, keys), keys)


def _matches(keys: Mapping[str, sa.Column[Any]]) -> list[sa.ColumnElement[bool]]:
    return [column == sa.bindparam(name) for name, column in keys.items()]


def _recordset(columns: Mapping[str, sa.Column[Any]]) -> sa.Subquery:
    """Return the parameter `rows` as a table."""
    rows = sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text), sa.JSON))
    typed = [sa.column(name, _wire_type(column)) for name, column in columns.items()]
    typed += [
        sa.column(_start(name), sa.Integer())
        for name, column in columns.items()
        if isinstance(column.type, sa.LargeBinary)
    ]
    derived = rows.table_valued(*typed).render_derived(name="r", with_types=True)
    return sa.select(derived).limit(_COUNT).subquery("given")


def _wire_type(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    if isinstance(column.type, sa.LargeBinary):
        return sa.Integer()
    return sa.Text() if isinstance(column.type, sa.JSON) else column.type


def _value(rows: sa.FromClause, name: str, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    if isinstance(column.type, sa.LargeBinary):
        concatenated = sa.bindparam(_concatenated(name), type_=sa.LargeBinary)
        return sa.func.substring(concatenated, rows.c[_start(name)], rows.c[name])
    if isinstance(column.type, sa.JSON):
        return sa.cast(rows.c[name], sa.JSON)
    return rows.c[name]


def _start(name: str) -> str:
    return f"{name}_start"


def _concatenated(name: str) -> str:
    return f"{name}_concatenated"


def _text(value: Any) -> str | None:
    return None if value is None else json.encode(value).decode()
