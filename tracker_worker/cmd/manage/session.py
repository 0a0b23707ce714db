# SPDX-License-Identifier: Apache-2.0
"""The configuration, the database and the broker of a subcommand.

What only some commands need is imported when they need it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from oslo_config import cfg

from tracker_worker.cmd.database import DATABASE_ERRORS, database_file, database_text, database_url
from tracker_worker.cmd.failures import CommandFailed, configuration_text
from tracker_worker.conf import opts
from tracker_worker.core.urls import printable_url
from tracker_worker.db import fitness
from tracker_worker.db.reading import create_reading_engine
from tracker_worker.option_errors import wrong_values

if TYPE_CHECKING:
    from tracker_worker.bus.rabbit.connection import BrokerSettings
    from tracker_worker.worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)


def database_of(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return the engine of the configured database, without creating or migrating the database.

    The engine connects on first use. Raises CommandFailed for a missing file and for invalid options.
    """
    from tracker_worker.db.engine import create_engine, engine_options

    return _engine_of(
        conf, lambda url: create_engine(url, **engine_options(conf.database) | {"max_retries": 0})
    )


def _reading_engine(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return an engine like that of `database_of`, of which the commands that only read start faster."""
    options = conf.database
    return _engine_of(
        conf,
        lambda url: create_reading_engine(url, options.connection_parameters, options.mysql_wsrep_sync_wait),
    )


def url_of_database(conf: cfg.ConfigOpts) -> str | None:
    """Return the URL of the database, None for the embedded one. Raises CommandFailed for invalid options."""
    if wrong := wrong_values(conf, "database"):
        raise CommandFailed("; ".join(wrong))
    try:
        return database_url(conf)
    except (ValueError, cfg.Error) as error:
        raise CommandFailed(configuration_text(error)) from None


def _engine_of(conf: cfg.ConfigOpts, create: Callable[[str], sa.Engine]) -> sa.Engine:
    url = url_of_database(conf)
    if not url:
        file = database_file(Path(conf.state_path))
        if not file.exists():
            raise CommandFailed(
                f"there is no database {file}: set [database] connection or [DEFAULT] state_path, or create "
                "it with 'tracker-worker-manage db sync'"
            )
        url = f"sqlite:///{file}"
    LOG.debug("The database is %s", printable_url(url))
    with reporting_database_errors(conf):
        try:
            return create(url)
        except cfg.Error as error:
            raise CommandFailed(configuration_text(error)) from None


@contextmanager
def reporting_database_errors(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Convert errors of the configured database to CommandFailed; the text names the database."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise CommandFailed(database_text(conf, error)) from error


@contextmanager
def engine_at_head(conf: cfg.ConfigOpts) -> Iterator[sa.Engine]:
    """Yield the engine of a database that has the schema of this version. Raises CommandFailed."""
    with _at_head(conf, database_of(conf)) as engine:
        yield engine


@contextmanager
def _at_head(conf: cfg.ConfigOpts, engine: sa.Engine) -> Iterator[sa.Engine]:
    try:
        with reporting_database_errors(conf):
            with engine.connect() as connection:
                fitness.check(connection)
            yield engine
    finally:
        engine.dispose()


@contextmanager
def snapshot(conf: cfg.ConfigOpts) -> Iterator[sa.Connection]:
    """Yield a connection on which all statements read one snapshot. Raises CommandFailed."""
    with _at_head(conf, _reading_engine(conf)) as engine, snapshot_of(engine) as connection:
        yield connection


@contextmanager
def snapshot_of(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection on which all statements read one snapshot."""
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":  # Its transactions always read one snapshot.
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def settings_of(conf: cfg.ConfigOpts) -> WorkerSettings:
    """Return the worker's settings. Raises CommandFailed."""
    from tracker_worker.cmd import bootstrap

    opts.set_defaults()
    try:
        bootstrap.transports(conf)
        return bootstrap.settings_of(conf)
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def broker_of(conf: cfg.ConfigOpts) -> tuple[WorkerSettings, BrokerSettings]:
    """Return the settings of the worker and of its broker. Raises CommandFailed if it has no broker."""
    settings = settings_of(conf)
    if settings.broker is None:
        raise CommandFailed("[DEFAULT] transport_url names no RabbitMQ: this command needs a broker")
    return settings, settings.broker
