# SPDX-License-Identifier: Apache-2.0
"""The configuration, the database and the broker of a subcommand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from oslo_config import cfg

from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.cmd import bootstrap
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.db import fitness
from tracker_worker.db.engine import create_engine, engine_options
from tracker_worker.option_errors import wrong_values
from tracker_worker.worker.settings import WorkerSettings


def database_of(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return the engine of the configured database, without creating or migrating the database.

    The engine connects on first use. Raises CommandFailed for a missing file and for invalid options.
    """
    if wrong := wrong_values(conf, "database"):
        raise CommandFailed("; ".join(wrong))
    try:
        url = bootstrap.database_url(conf)
        options = engine_options(conf.database) | {"max_retries": 0}
    except (ValueError, cfg.Error) as error:
        raise CommandFailed(bootstrap.configuration_text(error)) from None
    if not url:
        file = bootstrap.database_file(Path(conf.state_path))
        if not file.exists():
            raise CommandFailed(
                f"there is no database {file}: set [database] connection or [DEFAULT] state_path, or create "
                "it with 'tracker-worker-manage db sync'"
            )
        url = f"sqlite:///{file}"
    with reporting_database_errors(conf):
        return create_engine(url, **options)


@contextmanager
def reporting_database_errors(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Convert errors of the configured database to CommandFailed; the text names the database."""
    try:
        yield
    except bootstrap.DATABASE_ERRORS as error:
        raise CommandFailed(bootstrap.database_text(conf, error)) from error


@contextmanager
def engine_at_head(conf: cfg.ConfigOpts) -> Iterator[sa.Engine]:
    """Yield the engine of a database that has the schema of this version. Raises CommandFailed."""
    engine = database_of(conf)
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
    with engine_at_head(conf) as engine, snapshot_of(engine) as connection:
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
