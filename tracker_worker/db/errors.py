# SPDX-License-Identifier: Apache-2.0
"""Which errors are data errors. Every other one is the server's, and is retried.

The lists name data errors, not the server's: an error that no list has (a corrupt page, a pooler's protocol
error, a limit of the operating system) says nothing about the rows that were written. Drivers and oslo.db
classify errors by their messages, which may contain anything; SQLSTATEs and error numbers decide here.
"""

from typing import Any

from oslo_db import exception as db_exception
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from tracker_worker.core.error_text import driver_error
from tracker_worker.db.bulk import RowsTooLarge
from tracker_worker.db.store import StaleNode

DATABASE_ERRORS = (SQLAlchemyError, db_exception.DBError, StaleNode)
"""What using a database raises, apart from RowsTooLarge."""

_DATA_STATES = ("22", "23", "44", "54", "P0")
"""PostgreSQL's classes: data exception, integrity constraint, check of a view, program limit, raised by a
trigger. The documentation has the table of all classes."""
_DATA_NUMBERS = frozenset(
    [
        1048,  # a column cannot be null
        1118,  # the row is too long for a page
        1153,  # the packet is longer than max_allowed_packet; 2020: as the client says it
        2020,
        1264,  # a number is out of range
        1300,  # a text is not of its character set
        1301,  # a result is longer than max_allowed_packet
        1366,  # a value is not of its column's type; 1292: a date or a time
        1292,
        1406,  # a text is too long
        1644,  # a trigger says so
        1690,  # a number is out of range on the way
        4025,  # a check of a column; 3819: as MySQL says it
        3819,
        *range(4035, 4045),  # the JSON cannot be read
        *range(4174, 4178),  # nor taken apart
    ]
)
"""MariaDB's and MySQL's, of which drivers and oslo.db count many as operational."""
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
"""How a client of MariaDB notices that its connection is lost. (For oslo.db 1047 is such a one, too.)"""
_LOST_BY_POOLER = ("08P01", "server conn crashed?")
"""How PgBouncer says that the server closed the connection without a word: the state stands for everything
that it says itself."""
_DENIED_STATE = "42501"
_DENIED_NUMBERS = frozenset((1044, 1142, 1143, 1227))  # to a database, a table, a column; in general
_TIMEOUT_STATES = ("57014",)
_TIMEOUT_NUMBERS = frozenset((1969, 3024))  # MariaDB's max_statement_time, MySQL's max_execution_time
_READ_ONLY_STATE = "25006"
_READ_ONLY_NUMBERS = frozenset((1290, 1792))  # the server, the transaction
_READ_TIMEOUT = "timed out"
"""How PyMySQL says that no answer came within read_timeout: it closes the connection, nobody lost it."""


def is_data_error(error: BaseException) -> bool:
    """Tell whether an error speaks of what was written, so that the same rows will meet it again.

    True for every error that is none of a database: it comes from the rules, or from encoding a value. False
    for a row that exists already: another writer's, until it repeats.
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
    """Tell whether a row exists already, in whatever language the server says so."""
    if isinstance(error, db_exception.DBDuplicateEntry):
        return True
    original = driver_error(error)
    return _state(original) == _DUPLICATE_STATE or _number(original) == _DUPLICATE_NUMBER


def is_connection_lost(error: BaseException | None) -> bool:
    """Tell whether the connection was lost in the middle of a statement, as when the server dies of it.

    Not when the server has said why it ends the session: an operator, or a limit, has ended it.
    """
    if not isinstance(error, db_exception.DBConnectionError):
        return False
    original = driver_error(error)
    number, state = _number(original), _state(original)
    silent = not state and (number is None or number in _LOST_NUMBERS)
    passed_on = (state, str(original).strip()) == _LOST_BY_POOLER
    return passed_on or (silent and not is_statement_timeout(error))


def is_statement_timeout(error: BaseException | None) -> bool:
    """Tell whether a statement took longer than the session, or the driver, allows."""
    if not isinstance(error, DATABASE_ERRORS):
        return False
    original = driver_error(error)
    number = _number(original)
    if number == _LOST_IN_A_STATEMENT:
        return _READ_TIMEOUT in str(original)
    return number in _TIMEOUT_NUMBERS or _state(original) in _TIMEOUT_STATES


def is_right_missing(error: BaseException) -> bool:
    """Tell whether the server knows the user and does not let it do this."""
    original = driver_error(error)
    return _state(original) == _DENIED_STATE or _number(original) in _DENIED_NUMBERS


def is_write_refused(error: BaseException) -> bool:
    """Tell whether a user may not write, now and whenever it is tried, or nobody may: it is read-only."""
    original = driver_error(error)
    return (
        is_right_missing(error)
        or _state(original) == _READ_ONLY_STATE
        or _number(original) in _READ_ONLY_NUMBERS
        or getattr(original, "sqlite_errorname", "").startswith("SQLITE_READONLY")
    )


def _state(original: Any) -> str:
    """Return the SQLSTATE of an error of PostgreSQL, "" where it has none; MariaDB has one for too much."""
    return (getattr(original, "sqlstate", None) or "") if _number(original) is None else ""


def _number(original: Any) -> int | None:
    """Return the number of an error of MariaDB or MySQL; drivers give it as the first argument."""
    number = original.args[0] if getattr(original, "args", None) else None
    return number if isinstance(number, int) and type(original).__module__.startswith("pymysql") else None


def _is_refused_by_the_driver(error: BaseException) -> bool:
    """Tell whether a driver could not even bind the values: its own error is none of a database's.

    SQLAlchemy wraps that as a StatementError, oslo.db as a DBError around whatever it was.
    """
    inner = getattr(error, "inner_exception", None)
    if type(error) is db_exception.DBError and inner is not None:
        return not isinstance(inner, (SQLAlchemyError, OSError))
    return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
