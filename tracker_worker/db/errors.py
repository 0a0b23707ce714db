# SPDX-License-Identifier: Apache-2.0
"""Which errors of the database pass without a change of the events."""

from typing import Any

from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracker_worker.db.store import StaleNode

TRANSIENT = (
    OperationalError,
    InterfaceError,
    # What oslo.db's own listeners make of a lost connection in some places.
    PendingRollbackError,
    PoolTimeout,
    db_exception.DBConnectionError,
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
