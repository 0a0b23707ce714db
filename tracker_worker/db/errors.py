# SPDX-License-Identifier: Apache-2.0
"""Which errors are data errors. All others are server errors, and the caller retries them.

The lists contain data errors only: an error on no list (a corrupt page, a protocol error of a pooler, a limit
of the operating system) is not caused by the rows that were written. Drivers and oslo.db classify errors by
their messages, which may contain anything; this module uses SQLSTATEs and error numbers.
"""

from typing import Any

from oslo_db import exception as db_exception
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from tracker_worker.core.error_text import driver_error
from tracker_worker.db.bulk import RowsTooLarge
from tracker_worker.db.store import StaleNode

DATABASE_ERRORS = (SQLAlchemyError, db_exception.DBError, StaleNode)
"""What using a database raises, apart from RowsTooLarge."""
READ_ERRORS = (*DATABASE_ERRORS, ValueError, TypeError)
"""What reading rows raises: also what a value of another type causes, which somebody has written by hand."""

_DATA_STATES = ("22", "23", "44", "54", "P0")
"""PostgreSQL's classes: data exception, integrity constraint, check option of a view, program limit, PL/pgSQL
error. The documentation has the table of all classes."""
_DATA_NUMBERS = frozenset(
    [
        1048,  # a column cannot be null
        1118,  # the row is too long for a page
        1153,  # the packet is longer than max_allowed_packet; 2020: the client's number for it
        2020,
        1264,  # a number is out of range
        1300,  # a text is not of its character set
        1301,  # a result is longer than max_allowed_packet
        1366,  # a value is not of its column's type; 1292: a date or a time
        1292,
        1406,  # a text is too long
        1644,  # a trigger's SIGNAL
        1690,  # an intermediate result is out of range
        4025,  # a check constraint of a column; 3819: MySQL's number for it
        3819,
        *range(4035, 4045),  # the JSON cannot be parsed
        *range(4174, 4178),  # JSON_TABLE cannot convert it
    ]
)
"""Data errors of MariaDB and MySQL. Drivers and oslo.db classify many of them as operational errors."""
_DATA_CLASSES = (
    DataError,
    IntegrityError,
    RowsTooLarge,
    db_exception.DBDataError,
    db_exception.DBConstraintError,
    db_exception.DBReferenceError,
)
_DUPLICATE_STATE, _DUPLICATE_NUMBER = "23505", 1062
_LOST_IN_A_STATEMENT = 2013
_LOST_NUMBERS = frozenset((2006, _LOST_IN_A_STATEMENT))
"""The numbers of a lost connection to MariaDB. (oslo.db counts 1047 among them, which is another error.)"""
_LOST_BY_POOLER = ("08P01", "server conn crashed?")
"""PgBouncer's error when the server closed the connection without an error. PgBouncer uses this SQLSTATE for
all errors of its own, so that the text has to match too."""
_DENIED_STATE = "42501"
_DENIED_NUMBERS = frozenset((1044, 1142, 1143, 1227))  # of a database, table, column; a global privilege
_TIMEOUT_STATES = ("57014",)
_TIMEOUT_NUMBERS = frozenset((1969, 3024))  # MariaDB's max_statement_time, MySQL's max_execution_time
_READ_ONLY_STATE = "25006"
_READ_ONLY_NUMBERS = frozenset((1290, 1792))  # the server, the transaction
_READ_TIMEOUT = "timed out"
"""PyMySQL's text when no answer comes within read_timeout. PyMySQL then closes the connection itself."""


def is_data_error(error: BaseException) -> bool:
    """Tell whether the written data cause the error, so that a retry with the same rows fails again.

    True for every error that does not come from the database: the rules, or the encoding of a value, raised
    it. False for a duplicate row, which another writer may have inserted.
    """
    if not isinstance(error, DATABASE_ERRORS):
        return True
    if isinstance(error, StaleNode) or is_duplicate(error):
        return False
    original = driver_error(error)
    if _number(original) in _DATA_NUMBERS:
        return True
    if state := _state(original):
        return state.startswith(_DATA_STATES)
    kinds = (error, getattr(error, "inner_exception", None))
    return any(isinstance(each, _DATA_CLASSES) for each in kinds) or _is_refused_by_the_driver(error)


def is_duplicate(error: BaseException) -> bool:
    """Tell whether a row exists already; independent of the language of the server's messages."""
    if isinstance(error, db_exception.DBDuplicateEntry):
        return True
    original = driver_error(error)
    return _state(original) == _DUPLICATE_STATE or _number(original) == _DUPLICATE_NUMBER


def is_connection_lost(error: BaseException | None) -> bool:
    """Tell whether the connection was lost during a statement, as when the statement crashes the server.

    False if the server gave a reason for ending the session: an operator or a limit has ended it.
    """
    if not isinstance(error, db_exception.DBConnectionError):
        return False
    original = driver_error(error)
    number, state = _number(original), _state(original)
    silent = not state and (number is None or number in _LOST_NUMBERS)
    passed_on = (state, str(original).strip()) == _LOST_BY_POOLER
    return passed_on or (silent and not is_statement_timeout(error))


def is_statement_timeout(error: BaseException | None) -> bool:
    """Tell whether a statement exceeded the time limit of the session or of the driver."""
    if not isinstance(error, DATABASE_ERRORS):
        return False
    original = driver_error(error)
    number = _number(original)
    if number == _LOST_IN_A_STATEMENT:
        return _READ_TIMEOUT in str(original)
    return number in _TIMEOUT_NUMBERS or _state(original) in _TIMEOUT_STATES


def is_right_missing(error: BaseException) -> bool:
    """Tell whether the server denied the operation because the user lacks a privilege."""
    original = driver_error(error)
    return _state(original) == _DENIED_STATE or _number(original) in _DENIED_NUMBERS


def is_write_refused(error: BaseException) -> bool:
    """Tell whether the user lacks the privilege to write, or the database is read-only."""
    original = driver_error(error)
    return (
        is_right_missing(error)
        or _state(original) == _READ_ONLY_STATE
        or _number(original) in _READ_ONLY_NUMBERS
        or getattr(original, "sqlite_errorname", "").startswith("SQLITE_READONLY")
    )


def _state(original: Any) -> str:
    """Return the SQLSTATE of an error of PostgreSQL, or "". MariaDB's SQLSTATEs are too coarse to be used."""
    return (getattr(original, "sqlstate", None) or "") if _number(original) is None else ""


def _number(original: Any) -> int | None:
    """Return the number of an error of MariaDB or MySQL, which PyMySQL passes as the first argument."""
    number = original.args[0] if getattr(original, "args", None) else None
    return number if isinstance(number, int) and type(original).__module__.startswith("pymysql") else None


def _is_refused_by_the_driver(error: BaseException) -> bool:
    """Tell whether the driver failed to bind the values, before it sent the statement.

    SQLAlchemy wraps such an error as a StatementError, oslo.db as a DBError.
    """
    inner = getattr(error, "inner_exception", None)
    if type(error) is db_exception.DBError and inner is not None:
        return not isinstance(inner, (SQLAlchemyError, OSError))
    return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
