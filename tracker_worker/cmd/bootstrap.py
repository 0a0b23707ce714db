# SPDX-License-Identifier: Apache-2.0
"""Bootstrap of the commands: configuration, transports, engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log

from tracker_worker.client.transport import check_broker_url
from tracker_worker.cmd.database import (
    DATABASE_ERRORS,
    DIRECTORY_MODE,
    database_file,
    database_text,
    database_url,
    unusable,
)
from tracker_worker.cmd.urls import checked_url, url_of
from tracker_worker.conf import opts
from tracker_worker.core.urls import (
    TRANSPORT_ESCAPES,
    check_url,
    printable_url,
    redacted,
    secrets_of,
)
from tracker_worker.db import fitness, leases, store
from tracker_worker.db.engine import create_engine, engine_options, sync_schema
from tracker_worker.db.tables import LEASES, NODES
from tracker_worker.option_errors import wrong_values
from tracker_worker.rpcapi import EXMODS
from tracker_worker.worker.configuration import settings_from
from tracker_worker.worker.settings import WorkerSettings

FAKE_URL = opts.TRANSPORT_URL
NOTIFICATIONS = "oslo_messaging_notifications"

_FOR_RABBITMQ = "for RabbitMQ it begins with rabbit://"
_NOT_RABBIT = {"kombu": _FOR_RABBITMQ, "": f"it is empty; {_FOR_RABBITMQ}"}
"""Schemes that oslo.messaging accepts for RabbitMQ and the worker refuses, with the reason."""


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options on `conf`.

    Programs pass cfg.CONF: oslo.messaging reads some of its options there only, and loses casts without them.
    """
    register_without_log(conf)
    log.register_options(conf)


def register_without_log(conf: cfg.ConfigOpts) -> None:
    """Register all options but oslo.log's: it keeps the last configuration that they were registered on."""
    opts.register_opts(conf)
    db_options.set_defaults(conf)
    opts.set_defaults()


def transports(conf: cfg.ConfigOpts, url: str | None = None) -> tuple[Any, Any]:
    """Return the RPC and the notification transport; notifications are on unless their driver is noop.

    A `url` overrides the configured URL of both, and makes their queues durable. Raises ValueError for a
    transport that cannot be used; its text is for the user.
    """
    # These register oslo.messaging's options.
    oslo_messaging.get_rpc_transport(conf, url=FAKE_URL)
    oslo_messaging.get_notification_transport(conf, url=FAKE_URL)
    option = "[DEFAULT] transport_url"
    if url is not None:
        conf.set_override("transport_url", url)
        option = "--transport-url"
    where = url_of(conf, "DEFAULT", "transport_url", check_broker_url, option) or ""
    own = url_of(conf, NOTIFICATIONS, "transport_url", check_broker_url)
    for name, given in ((option, where), (f"[{NOTIFICATIONS}] transport_url", own or None)):
        if given is not None and _scheme(given) in _NOT_RABBIT:
            raise ValueError(f"{name} = {printable_url(given)} cannot be used: {_NOT_RABBIT[_scheme(given)]}")
    with _named_transport(option, where):
        rpc = oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=EXMODS)
    with _named_transport(f"[{NOTIFICATIONS}] transport_url" if own else option, own or where):
        notifications = oslo_messaging.get_notification_transport(conf)
    if url is not None and "oslo_messaging_rabbit" in conf:
        conf.set_override("amqp_durable_queues", True, group="oslo_messaging_rabbit")
    return rpc, notifications


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


@contextmanager
def _named_transport(option: str, url: str) -> Iterator[None]:
    """Convert oslo.messaging's errors about a URL to ValueError, because their text quotes the URL."""
    where = f"{option} = {printable_url(url)} cannot be used"
    try:
        yield
    except oslo_messaging.DriverLoadFailure as error:
        text = redacted(str(error.ex), secrets_of(url))
        raise ValueError(f"{where}: {text}; {_FOR_RABBITMQ}") from None
    except ImportError as error:
        raise ValueError(f"{where}: {error}; {_FOR_RABBITMQ}") from None
    except (oslo_messaging.InvalidTransportURL, ValueError, cfg.Error):
        raise ValueError(
            f"{where}: only options of [oslo_messaging_rabbit] may follow a ?, and in a user name or a "
            f"password write {TRANSPORT_ESCAPES}"
        ) from None


def configured_engine(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return the engine of `[database] connection`, else of the embedded database under the state path.

    Retries the connection to a server up to `[database] max_retries` times. Migrates SQLite to the head
    revision. The schema of a server, which other workers may be using, is only checked: the operator migrates
    it. Raises ValueError for a database that cannot be used; its text is for the user.
    """
    url = database_url(conf)
    try:
        if not url:
            return embedded_engine(Path(conf.state_path))
        _refuse_memory(url)
        engine = create_engine(url, **engine_options(conf.database))
        if engine.dialect.name == "sqlite":
            migrate(engine)
        else:
            with engine.connect() as connection:
                fitness.check(connection)
    except DATABASE_ERRORS as error:
        raise ValueError(database_text(conf, error)) from error
    return engine


def settings_of(conf: cfg.ConfigOpts) -> WorkerSettings:
    """Return the worker's settings. Raises ValueError for invalid options and URLs."""
    database_url(conf)
    if wrong := wrong_values(conf):
        raise ValueError("; ".join(wrong))
    return settings_from(conf)


def _refuse_memory(url: str) -> None:
    parsed = sa.make_url(url)
    in_memory = ":memory:" in url or "mode=memory" in url or not parsed.database
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise ValueError(
            "[database] connection: in memory, all threads would share one transaction; name a file"
        )


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Migrate a schema to a revision. Raises UnfitDatabase for a database that no migration makes usable."""
    with engine.connect() as connection:
        fitness.check_before_migration(connection)
    sync_schema(engine, revision)


def embedded_engine(directory: Path) -> sa.Engine:
    """Create or migrate the embedded database in a directory; return its engine."""
    directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{database_file(directory)}")
    migrate(engine)
    return engine


def empty_engine(url: str) -> sa.Engine:
    """Migrate a database that has no nodes to the head revision; return its engine.

    Raises ValueError if the database has nodes or a worker, which would publish the notifications of another
    one's events, or cannot be used; its text is for the user.
    """
    checked_url("--database", url, check_url)
    where = f"--database {printable_url(url)}"
    try:
        engine = create_engine(url)
        lease, names = _relay_and_nodes(engine)
    except DATABASE_ERRORS as error:
        raise ValueError(unusable(where, error, secrets_of(url))) from error
    if lease is not None and lease.seconds_left > 0:
        raise ValueError(
            f"{where}: the worker {lease.owner} uses it, and would publish the notifications of the trace to "
            f"its consumers (its lease ends in {lease.seconds_left:.0f} s unless it renews it): name another "
            "database, or stop its workers"
        )
    if names:
        raise ValueError(f"the database has nodes ({len(names)}): name an empty one")
    try:
        migrate(engine)
    except DATABASE_ERRORS as error:
        raise ValueError(unusable(where, error, secrets_of(url))) from error
    return engine


def _relay_and_nodes(engine: sa.Engine) -> tuple[leases.Holder | None, list[str]]:
    """Return who publishes the notifications of a database, and the names of its nodes: of any revision."""
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        if not inspector.has_table(NODES.name):
            return None, []
        lease = leases.holder(connection, leases.RELAY) if inspector.has_table(LEASES.name) else None
        return lease, store.names(connection)
