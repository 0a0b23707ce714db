# SPDX-License-Identifier: Apache-2.0
"""Watching, failing and rejecting what goes to a real database: it and its driver do the work."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import json
from oslo_db.exception import DBConnectionError

from tests.functional.lanes import LaneBench
from tracker_worker.db.tables import METADATA


@dataclass(frozen=True)
class Statement:
    """One statement as the driver got it; `many` tells that it was an executemany."""

    sql: str
    parameters: Any
    many: bool

    @property
    def rows(self) -> int:
        """How many rows it got: with executemany, or as one JSON parameter."""
        if self.many:
            return len(self.parameters)
        at_once = isinstance(self.parameters, dict) and "rows" in self.parameters
        return len(json.decode(self.parameters["rows"])) if at_once else 1


@contextmanager
def watched(engine: sa.Engine | type[sa.Engine]) -> Iterator[list[Statement]]:
    """Collect the statements that an engine, or any, executes inside the block; BEGIN is none."""
    seen: list[Statement] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:
        if not sql.startswith("BEGIN"):
            seen.append(Statement(sql, parameters, many))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


class Fault:
    """Statements fail, `times` times or for ever, as if the driver had failed them: those of which a clause
    begins with a text.

    What the driver raises goes the whole way through SQLAlchemy and oslo.db; an error of SQLite's becomes the
    one of that name of the driver in use. `hits` counts. `holding` fails only statements that have this value
    among their parameters.
    """

    def __init__(
        self,
        engine: sa.Engine,
        beginning: str,
        error: Callable[[], Exception],
        times: int | None = None,
        holding: str | None = None,
    ) -> None:
        self.hits = 0
        self._engine = engine
        self._beginning = beginning
        self._error = error
        self._times = times
        self._holding = holding

    def __enter__(self) -> "Fault":
        for name in ("do_execute", "do_executemany"):
            sa.event.listen(self._engine, name, self._execute)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("do_execute", "do_executemany"):
            sa.event.remove(self._engine, name, self._execute)

    def _execute(self, _cursor: Any, sql: str, parameters: Any, _context: Any) -> None:
        held = self._holding is None or _holds(parameters, self._holding)
        meant = any(clause.startswith(self._beginning) for clause in clauses(sql))
        if held and meant and self._times != self.hits:
            self.hits += 1
            error = self._error()
            if isinstance(error, sqlite3.Error):
                error = getattr(self._engine.dialect.loaded_dbapi, type(error).__name__)(*error.args)
            raise error


def main_clause(sql: str) -> str:
    """A statement without what PostgreSQL (WITH) and MariaDB (JSON_TABLE) have it read first."""
    sql = re.sub(r"^UPDATE JSON_TABLE\(.*\) AS r STRAIGHT_JOIN ", "UPDATE ", sql)
    sql = re.sub(r"^SELECT STRAIGHT_JOIN ", "SELECT ", sql)
    return re.sub(r"(?s)^WITH .*\)\s+(?=UPDATE)", "", sql)


def clauses(sql: str) -> list[str]:
    """A statement's main clause, and what begins with an insert or update in the WITH of PostgreSQL."""
    return [main_clause(sql), *re.split(r"AS \n\((?=INSERT|UPDATE)", sql)[1:]]


def _holds(parameters: Any, value: str) -> bool:
    rows = parameters if isinstance(parameters, list) else [parameters]
    values = [one for row in rows for one in (row.values() if isinstance(row, dict) else row)]
    return value in values or any(isinstance(one, str) and f'"{value}"' in one for one in values)


def death(bench: LaneBench, beginning: str) -> Fault:
    """The worker ends in the middle of its transaction, at a statement that begins with a text."""

    def die() -> Exception:
        bench.lane.abandon()
        return disk_full()

    return Fault(bench.engine, beginning, die)


def disk_full() -> Exception:
    return sqlite3.OperationalError("database or disk is full")


def out_of_range() -> Exception:
    return sqlite3.DataError("value out of range")


def connection_lost() -> Exception:
    """What oslo.db makes of a lost connection to a server; a file has none to lose."""
    error: Exception = DBConnectionError(sqlite3.OperationalError("server has gone away"))
    return error


def reject(engine: sa.Engine, table: str, condition: str) -> None:
    """Let the database itself refuse rows of a table for ever (a trigger; NEW is the row)."""
    trigger = f"CREATE TRIGGER reject_{table} BEFORE INSERT ON {table}"
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                f"{trigger} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'rejected'); END"
            )
            return
        if engine.dialect.name == "mysql":
            signal = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'rejected'"
            connection.exec_driver_sql(f"{trigger} FOR EACH ROW IF {condition} THEN {signal}; END IF")
            return
        connection.exec_driver_sql(
            "CREATE FUNCTION reject() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'rejected'; END $$"
        )
        connection.exec_driver_sql(f"{trigger} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION reject()")


def reject_nothing(engine: sa.Engine) -> None:
    """Undo every `reject` in a server's database."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("DROP FUNCTION IF EXISTS reject CASCADE")
            return
        for table in METADATA.tables:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS reject_{table}")


@contextmanager
def lost_commits(engine: sa.Engine, times: int = 1, after: str = "") -> Iterator[None]:
    """The commit happens, and the connection is lost before anybody hears of it. `after`: the first commits
    behind a statement that begins with this text.
    """
    left, begun = [times], [not after]

    def note(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        begun[0] |= sql.startswith(after)

    def commit(connection: sa.Connection) -> None:
        if begun[0] and left[0]:
            left[0] -= 1
            assert connection.connection.dbapi_connection
            connection.connection.dbapi_connection.commit()
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("connection lost"))

    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        sa.event.remove(engine, "commit", commit)
        sa.event.remove(engine, "before_cursor_execute", note)
