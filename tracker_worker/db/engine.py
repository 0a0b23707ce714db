# SPDX-License-Identifier: Apache-2.0
"""Engines, with oslo.db's exception translation, and the schema's migrations.

READ COMMITTED is enough: what a batch has read outside its transaction is guarded by the sequences of its
nodes, compared and swapped under the rows' locks, and by the primary key of the receipts. A stricter level,
which PostgreSQL may have by default, fails where these would, and is tried again.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from oslo_db.sqlalchemy import engines
from sqlalchemy.exc import ArgumentError
from tenacity import RetryCallState, stop_after_attempt
from tenacity.stop import stop_never

from tracker_worker.core.error_text import error_text
from tracker_worker.core.urls import printable_url, secrets_of
from tracker_worker.db import sessions
from tracker_worker.db.back_off import attempts_with_back_off, result_of
from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.db.revisions import MIGRATIONS

LOG = logging.getLogger(__name__)

MIGRATION_LOCK = 0x747261636B6572
"""The number of the advisory lock under which PostgreSQL's schema is migrated ("tracker" in ASCII)."""
MIGRATION_TIMEOUT = 3600
"""How long a migration may wait for a lock, or for another migration. On MariaDB a statement of one may take
twice as long."""

_OPTIONS = (
    "connection_debug", "connection_parameters", "connection_recycle_time", "connection_trace",
    "max_overflow", "max_pool_size", "max_retries", "mysql_sql_mode", "mysql_wsrep_sync_wait", "pool_timeout",
    "retry_interval",
)  # fmt: skip


def engine_options(database: Any) -> dict[str, Any]:
    """Return what `create_engine` takes of oslo.db's option group `[database]`."""
    return {option: getattr(database, option) for option in _OPTIONS}


def create_engine(
    url: str | sa.URL,
    *,
    max_retries: int = 0,
    retry_interval: float = 10,
    connection_parameters: str = "",
    mysql_sql_mode: str | None = None,
    **options: Any,
) -> sa.Engine:
    """Return an engine; `options` are oslo.db's. Its sessions are as `sessions` says.

    Tries to connect `max_retries` times (-1: for ever), `retry_interval` seconds apart, and raises the last
    error; 0 does not try. Raises SQLAlchemy's ArgumentError for parameters that the driver does not take, and
    at once `sessions.PooledSessions` for a pooler whose sessions lack what they need.
    """
    try:
        # Its own retries do not know how the drivers for PostgreSQL say that nobody listens.
        engine: sa.Engine = engines.create_engine(
            sessions.complete(url, connection_parameters),
            max_retries=0,
            mysql_sql_mode=sessions.sql_mode(mysql_sql_mode),
            **options,
        )
    except ValueError:  # A parameter is converted to the type that the driver wants.
        raise ArgumentError(sessions.WRONG_PARAMETERS) from None
    engine.hide_parameters = True  # An error's text goes to the log; what was bound may be anybody's secret.
    sessions.set_up(engine)
    if max_retries:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        secrets = secrets_of(text, f"{engine.name}://?{connection_parameters}")
        _wait_for(engine, max_retries, retry_interval, lambda error: error_text(error, secrets))
    return engine


def _wait_for(
    engine: sa.Engine, max_retries: int, retry_interval: float, text_of: Callable[[BaseException], str]
) -> None:
    where = printable_url(engine.url.render_as_string(hide_password=False))

    def log(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        said = text_of(error) if error is not None else ""
        LOG.warning("The database %s cannot be used yet (%d): %s", where, state.attempt_number, said)

    attempts = attempts_with_back_off(
        lambda error: isinstance(error, DATABASE_ERRORS) and not isinstance(error, sessions.PooledSessions),
        threading.Event(),  # Nothing but a signal ends a start.
        initial=retry_interval,
        most=retry_interval,
        before_sleep=log,
        stop=stop_never if max_retries < 0 else stop_after_attempt(max_retries),
    )
    result_of(attempts, lambda: engine.connect().close())


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Return alembic's configuration for this package's migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def sync_schema(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the database's schema to a revision; does nothing when it is there.

    Several processes may call it at once on a server: one migrates, the others wait for it. Where it dies
    half way it may be called again.
    """
    if engine.dialect.name == "mysql":
        _sync_mariadb(engine.url, revision)
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            sessions.lift_limits(connection, MIGRATION_TIMEOUT)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        command.upgrade(alembic_config(connection), revision)


def _sync_mariadb(url: sa.URL, revision: str) -> None:
    """Migrate under a lock of the session: the first change of a table ends a transaction and its locks."""
    migrating = create_engine(url.update_query_dict({"read_timeout": str(2 * MIGRATION_TIMEOUT)}))
    lock = sa.func.concat("tracker-worker.", sa.func.md5(sa.func.database()))
    try:
        with migrating.begin() as connection:
            sessions.lift_limits(connection, MIGRATION_TIMEOUT)
            if not connection.scalar(sa.select(sa.func.get_lock(lock, MIGRATION_TIMEOUT))):
                raise TimeoutError("another process has been migrating the schema for too long")
            command.upgrade(alembic_config(connection), revision)
    finally:
        migrating.dispose()  # And the lock with the session.
