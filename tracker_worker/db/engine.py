# SPDX-License-Identifier: Apache-2.0
"""Engines, with oslo.db's exception translation, and the schema's migrations.

Transactions have the database's default isolation; READ COMMITTED is enough. What a batch has read outside
its transaction is guarded by the sequences of its nodes, compared and swapped under the rows' locks, and by
the primary key of the receipts. A stricter level fails where these would, and is tried again.
"""

import logging
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from oslo_db.sqlalchemy import engines
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed
from tenacity.stop import stop_never

from tracker_worker.db.errors import TRANSIENT

LOG = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
APPLICATION_NAME = "tracker-worker"
MIGRATION_LOCK = 0x747261636B6572
"""The number of the advisory lock under which PostgreSQL's schema is migrated ("tracker" in ASCII)."""

_OPTIONS = (
    "connection_debug", "connection_parameters", "connection_recycle_time", "connection_trace",
    "max_overflow", "max_pool_size", "max_retries", "mysql_sql_mode", "mysql_wsrep_sync_wait", "pool_timeout",
    "retry_interval",
)  # fmt: skip


def engine_options(database: Any) -> dict[str, Any]:
    """Return what `create_engine` takes of oslo.db's option group `[database]`."""
    return {option: getattr(database, option) for option in _OPTIONS}


def create_engine(url: str, *, max_retries: int = 0, retry_interval: float = 10, **options: Any) -> sa.Engine:
    """Return an engine; `options` are oslo.db's. Commits are synchronous, whatever the server's default.

    Tries to connect `max_retries` times (-1: for ever), `retry_interval` seconds apart, and raises the last
    error; 0 does not try.
    """
    parsed = sa.make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.update_query_dict({"fallback_application_name": APPLICATION_NAME})
    # Its own retries do not know how the drivers for PostgreSQL say that nobody listens.
    engine: sa.Engine = engines.create_engine(parsed, max_retries=0, **options)
    engine.hide_parameters = True  # An error's text goes to the log; what was bound may be anybody's secret.
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _make_sqlite_durable)
    if engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _set_postgresql_session)
    if max_retries:
        _wait_for(engine, max_retries, retry_interval)
    return engine


def _make_sqlite_durable(connection: Any, _record: object) -> None:
    """A commit that is not on the disk could be acknowledged and lost: WAL is only safe with FULL."""
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _set_postgresql_session(connection: Any, _record: object) -> None:
    """Wait for the disk, even where server, database or role are set up not to.

    And plan every time: a plan kept from when a table was empty would read all of it, until the server looks
    at the table again.
    """
    connection.execute(
        "SELECT set_config('plan_cache_mode', 'force_custom_plan', false),"
        " CASE current_setting('synchronous_commit') WHEN 'off'"
        " THEN set_config('synchronous_commit', 'on', false) END"
    )
    connection.commit()


def _wait_for(engine: sa.Engine, max_retries: int, retry_interval: float) -> None:
    def log(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        LOG.warning("The database cannot be used yet (%d): %s", state.attempt_number, error)

    retrying = Retrying(
        retry=retry_if_exception_type(TRANSIENT),
        stop=stop_never if max_retries < 0 else stop_after_attempt(max_retries),
        wait=wait_fixed(retry_interval),
        before_sleep=log,
        reraise=True,
    )
    retrying(lambda: engine.connect().close())


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Return alembic's configuration for this package's migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def sync_schema(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the database's schema to a revision; does nothing when it is there.

    Several processes may call it at once on PostgreSQL: one migrates, the others wait for it.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        command.upgrade(alembic_config(connection), revision)
