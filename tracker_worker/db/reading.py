# SPDX-License-Identifier: Apache-2.0
"""Engines of the commands that only read.

They are SQLAlchemy's own: importing oslo.db's engines imports the ORM, which takes longer than most of these
commands. Errors are SQLAlchemy's too, and not translated.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from tracker_worker.db import sessions

# As oslo.db has it: of a database that is not in UTF-8 the driver would return bytes.
_OPTIONS = {"postgresql": {"client_encoding": "utf8"}}


def create_reading_engine(
    url: str | sa.URL, connection_parameters: str = "", mysql_wsrep_sync_wait: int | None = None
) -> sa.Engine:
    """Return an engine without a pool; it connects on first use. Its sessions are as `sessions` says.

    Raises SQLAlchemy's ArgumentError for parameters that the driver does not take.
    """
    try:
        complete = sessions.complete(url, connection_parameters)
        options = _OPTIONS.get(complete.get_backend_name(), {})
        engine = sa.create_engine(complete, poolclass=sa.NullPool, hide_parameters=True, **options)
    except ValueError:  # A parameter is converted to the type that the driver wants.
        raise ArgumentError(sessions.WRONG_PARAMETERS) from None
    sessions.set_up(engine)
    if engine.dialect.name == "sqlite":
        _begin_transactions(engine)
    elif mysql_wsrep_sync_wait is not None and engine.dialect.name == "mysql":
        _wait_for_galera(engine, mysql_wsrep_sync_wait)
    return engine


def _begin_transactions(engine: sa.Engine) -> None:
    """Begin each transaction of SQLite with BEGIN: its driver does not before a SELECT."""

    @sa.event.listens_for(engine, "connect")
    def leave_begin_to_us(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")


def _wait_for_galera(engine: sa.Engine, value: int) -> None:
    """Set wsrep_sync_wait, as oslo.db does: reads wait for what the cluster has committed before."""

    @sa.event.listens_for(engine, "connect")
    def set_wait(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION wsrep_sync_wait = %s", (value,))
