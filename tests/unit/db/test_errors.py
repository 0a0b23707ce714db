# SPDX-License-Identifier: Apache-2.0
"""What blames an event is on a list; every other error of a database is the server's trouble."""

import csv
import re
import sqlite3
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from oslo_db import exception as db_exception
from psycopg import errors as pg
from sqlalchemy.exc import DatabaseError

from tracker_worker.db.bulk import RowsTooLarge
from tracker_worker.db.errors import (
    _DATA_NUMBERS,
    is_connection_lost,
    is_data_error,
    is_duplicate,
    is_statement_timeout,
)
from tracker_worker.db.sessions import PooledSessions
from tracker_worker.db.store import StaleNode

PAGE = Path(__file__).resolve().parents[3] / "doc/source/admin/database-errors.rst"
STATES = sorted(state for kind in vars(pg).values() if isinstance(state := getattr(kind, "sqlstate", 0), str))
"""All that PostgreSQL's documentation lists, as the driver knows them."""
KINDS = {
    psycopg.DataError: sa.exc.DataError,
    psycopg.IntegrityError: sa.exc.IntegrityError,
    psycopg.InternalError: sa.exc.InternalError,
    psycopg.OperationalError: sa.exc.OperationalError,
    psycopg.ProgrammingError: sa.exc.ProgrammingError,
    psycopg.NotSupportedError: sa.exc.NotSupportedError,
    psycopg.DatabaseError: sa.exc.DatabaseError,
}


def wrapped(
    original: Exception,
    kind: type[DatabaseError] | None = None,
    outer: type[db_exception.DBError] | None = db_exception.DBError,
) -> Exception:
    """An error of a driver, in SQLAlchemy's and in oslo.db's wraps."""
    kind = kind or next(ours for theirs, ours in KINDS.items() if isinstance(original, theirs))
    inner = kind("UPDATE nodes", {}, original)
    return inner if outer is None else outer(inner)


def postgresql(state: str) -> Exception:
    return wrapped(pg.lookup(state)("said by the server"))


def mariadb(
    number: int,
    text: str = "said by the server",
    outer: type[db_exception.DBError] | None = None,
) -> Exception:
    original = pymysql.err.OperationalError(number, text, sqlstate="HY000")
    return wrapped(original, sa.exc.OperationalError, outer)


def documented_classes() -> dict[str, str]:
    """What becomes of an event, by class."""
    rows = re.findall(r'^   (\w\w, ".*", \w+)$', PAGE.read_text(), re.M)
    return {kind: fate for kind, _, fate in csv.reader(rows, skipinitialspace=True)}


def test_table_of_the_documentation_has_every_class_of_sqlstates() -> None:
    assert len(STATES) > 250
    assert {state[:2] for state in STATES} <= documented_classes().keys()
    assert set(documented_classes().values()) == {"parked", "waits"}


@pytest.mark.parametrize("state", STATES)
def test_sqlstate_blames_the_event_where_the_table_of_the_documentation_says_so(state: str) -> None:
    parked = documented_classes()[state[:2]] == "parked" and state != "23505"
    assert is_data_error(postgresql(state)) is parked
    assert not is_connection_lost(wrapped(pg.lookup(state)("?"), outer=db_exception.DBConnectionError))


@pytest.mark.parametrize("kind", sorted(documented_classes()))
def test_sqlstate_that_nobody_knows_is_as_its_class(kind: str) -> None:
    original = psycopg.OperationalError("said by the server")
    original.sqlstate = f"{kind}ZZ9"
    assert is_data_error(wrapped(original)) is (documented_classes()[kind] == "parked")


def test_sqlstate_of_no_class_blames_nobody() -> None:
    for state in ("45000", "ZZ000", "99999"):
        original = psycopg.DataError("out of range")
        original.sqlstate = state
        assert not is_data_error(wrapped(original))


def test_documentation_has_every_number_of_mariadb_that_blames_an_event() -> None:
    (listed,) = re.findall(r"Parked: (1048, .*?)\. ", PAGE.read_text(), re.S)
    numbers = set()
    for first, last in re.findall(r"(\d+)(?:\s+to\s+(\d+))?", listed):
        numbers |= set(range(int(first), int(last or first) + 1))
    assert numbers == _DATA_NUMBERS


@pytest.mark.parametrize("number", [1048, 1118, 1153, 1264, 1366, 1406, 1644, 1690, 4025, 4036, 4174])
def test_mariadb_number_of_the_data_blames_the_event(number: int) -> None:
    assert is_data_error(mariadb(number))
    assert is_data_error(mariadb(number, "value 2006 (2013)", db_exception.DBConnectionError))


@pytest.mark.parametrize(
    "number", [1020, 1030, 1034, 1040, 1047, 1053, 1114, 1146, 1205, 1213, 1290, 1317, 1927, 1969, 2006, 2013]
)
def test_mariadb_number_of_the_server_blames_nobody(number: int) -> None:
    assert not is_data_error(mariadb(number))
    assert not is_data_error(mariadb(number, outer=db_exception.DBError))


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.DatabaseError("database disk image is malformed"),
        sqlite3.OperationalError("database is locked"),
        sqlite3.InternalError("anything"),
    ],
)
def test_sqlite_error_of_the_file_blames_nobody(
    error: sqlite3.DatabaseError,
) -> None:
    assert not is_data_error(wrapped(error, getattr(sa.exc, type(error).__name__)))


@pytest.mark.parametrize(
    "error",
    [
        wrapped(sqlite3.DataError("string or blob too big"), sa.exc.DataError),
        wrapped(sqlite3.IntegrityError("NOT NULL constraint failed"), sa.exc.IntegrityError),
        db_exception.DBDataError(),
        db_exception.DBError(OverflowError("Python int too large")),
        db_exception.DBError(MemoryError()),
        sa.exc.StatementError("bind", "INSERT", {}, ValueError("no JSON")),
        RowsTooLarge("1 rows are 9 bytes"),
        ValueError("from the rules"),
    ],
)
def test_error_that_no_server_has_said_blames_the_event(error: Exception) -> None:
    assert is_data_error(error)


@pytest.mark.parametrize(
    "error",
    [
        StaleNode("node-1"),
        db_exception.DBDuplicateEntry(),
        db_exception.DBDeadlock(),
        db_exception.DBConnectionError(),
        db_exception.DBError(OSError("no route")),
        sa.exc.PendingRollbackError("the connection is gone"),
        sa.exc.TimeoutError("QueuePool limit"),
        sa.exc.InvalidRequestError("closed"),
        PooledSessions("execute ALTER ROLE"),
    ],
)
def test_error_of_the_way_to_the_server_blames_nobody(error: Exception) -> None:
    assert not is_data_error(error)


@pytest.mark.parametrize(
    ("number", "lost"), [(2006, True), (2013, True), (1047, False), (1290, False), (1205, False)]
)
def test_connection_is_lost_where_the_client_says_so_by_number(number: int, lost: bool) -> None:
    error = mariadb(number, "value 2006 (2013)", db_exception.DBConnectionError)
    assert is_connection_lost(error) is lost


def test_session_that_the_server_ends_with_a_reason_is_no_lost_connection() -> None:
    """An operator, or a limit, has ended it: nothing that the event has written."""
    for state in ("57P01", "57P05", "25P03", "08006"):
        assert not is_connection_lost(wrapped(pg.lookup(state)("?"), outer=db_exception.DBConnectionError))
    silent = psycopg.OperationalError("server closed the connection unexpectedly")
    assert is_connection_lost(wrapped(silent, outer=db_exception.DBConnectionError))


@pytest.mark.parametrize(
    ("text", "lost"),
    [("server conn crashed?", True), ("query_wait_timeout", False), ("pgbouncer cannot connect", False)],
)
def test_pooler_that_has_lost_the_server_without_a_word_says_so_in_its_own(text: str, lost: bool) -> None:
    original = pg.ProtocolViolation(text)
    assert is_connection_lost(wrapped(original, outer=db_exception.DBConnectionError)) is lost
    assert not is_data_error(wrapped(original))


def test_duplicate_is_known_by_its_number_in_any_language() -> None:
    german = pymysql.err.IntegrityError(1062, "Doppelter Eintrag", sqlstate="23000")
    for error in (postgresql("23505"), wrapped(german, sa.exc.IntegrityError)):
        assert is_duplicate(error)
        assert not is_data_error(error)
    assert not is_duplicate(postgresql("23502"))


def test_statement_that_took_too_long_is_no_lost_connection() -> None:
    read = mariadb(2013, "Lost connection to server during query (timed out)", db_exception.DBConnectionError)
    for error in (postgresql("57014"), mariadb(1969), mariadb(3024), read):
        assert is_statement_timeout(error)
        assert not is_connection_lost(error)
        assert not is_data_error(error)
    for other in (postgresql("55P03"), mariadb(1205), mariadb(2013), StaleNode("node-1"), None):
        assert not is_statement_timeout(other)
