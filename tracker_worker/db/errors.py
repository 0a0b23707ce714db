# SPDX-License-Identifier: Apache-2.0
"""Which errors of the database pass without a change of the events."""

from typing import Any

from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracker_worker.db.store import StaleNode

TRANSIENT = (
    OperationalError,
    InterfaceError,
    # What oslo.db's own listeners make of a lost connection in some places.
    PendingRollbackError,
    PoolTimeout,
    db_exception.DBConnectionError,
    db_exception.DBConsistencyError,
    db_exception.DBDeadlock,
    db_exception.DBDuplicateEntry,
    db_exception.DBNonExistentDatabase,
    db_exception.DBNonExistentTable,
    StaleNode,
)
"""Errors that say nothing about the events: the batch is tried again, for ever, and nothing is answered."""


def reason_of(error: BaseException | None) -> str:
    """Return what the driver said, in one line without the statement or its values."""
    said = getattr(error, "orig", None) or getattr(error, "inner_exception", None) or error
    said = getattr(said, "orig", None) or said
    lines = str(said).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


_PASS = (
    "0A",  # a prepared plan that a migration made invalid: our statements are constant
    "25",  # a server that is read-only, because it is a standby or its disk is full
    "42",  # a table, a column or a right is missing: the schema is another revision's
)
"""PostgreSQL's classes of errors that drivers do not count among the operational ones, and we do."""
_EVENTS_FAULT = ("54",)  # a limit of the server, which the same rows will meet for ever


def _judge(error: DBAPIError, _match: object, _dialect: str, is_disconnect: bool) -> None:
    """Raise what drivers for PostgreSQL put among the wrong errors; oslo.db sees to the rest."""
    original: Any = error.orig
    state = getattr(original, "sqlstate", None) or ""
    if state.startswith(_PASS) and not is_disconnect:
        raise OperationalError(error.statement, error.params, original, error.hide_parameters) from error
    if state.startswith(_EVENTS_FAULT):
        raise db_exception.DBDataError(error)


exc_filters.filters("postgresql", DBAPIError, "")(_judge)

_MARIADB_DATA = frozenset(
    [
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
"""What the same rows will meet for ever, and the driver or oslo.db counts as operational."""
_NOT_READY = 1047  # a member of a cluster without the others: oslo.db takes it for a lost connection


def _judge_mariadb(error: DBAPIError, _match: object, _dialect: str, _is_disconnect: bool) -> None:
    """Raise by the number alone: in a message there may be anything, numbers included."""
    original: Any = error.orig
    number = original.args[0] if original.args else None
    if number in _MARIADB_DATA:
        raise db_exception.DBDataError(error)
    # A table, a function or a right is missing: the schema is another revision's, or the server too old.
    programming = isinstance(error, ProgrammingError) and isinstance(number, int)
    if programming or number == _NOT_READY:
        raise OperationalError(error.statement, error.params, original, error.hide_parameters) from error


for _kind in (OperationalError, ProgrammingError):
    exc_filters.filters("mysql", _kind, "")(_judge_mariadb)
    # Before oslo.db's own, which look for numbers in the message.
    _rules = exc_filters._registry["mysql"][_kind]
    _rules.insert(0, _rules.pop())
