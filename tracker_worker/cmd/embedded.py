# SPDX-License-Identifier: Apache-2.0
"""What the commands share to start a worker: configuration, transports, engine."""

from pathlib import Path
from typing import Any

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import options as db_options
from oslo_db.exception import DBError
from oslo_log import log
from sqlalchemy.exc import SQLAlchemyError

from tracker_worker.conf import opts
from tracker_worker.db import store
from tracker_worker.db.engine import create_engine, engine_options, sync_schema
from tracker_worker.db.revisions import current, head
from tracker_worker.rpcapi import EXMODS

QUIET = ["oslo_db", "oslo_messaging", "alembic", "sqlalchemy"]
FAKE_URL = "fake://"


def register(conf: cfg.ConfigOpts) -> None:
    """Register all options on cfg.CONF, the only object on which oslo.messaging finds its own (it loses
    casts else).
    """
    opts.register_opts(conf)
    log.register_options(conf)
    log.set_defaults(default_log_levels=[f"{name}=WARNING" for name in QUIET])
    db_options.set_defaults(conf)
    oslo_messaging.set_transport_defaults("tracker")


def transports(conf: cfg.ConfigOpts, url: str | None = None) -> tuple[Any, Any]:
    """Return the RPC and the notification transport; notifications are on unless their driver is noop.

    A `url` given is taken for both, and its queues are durable. Raises ValueError, in words, for a transport
    that cannot be used.
    """
    # These register the options whose defaults are changed here.
    oslo_messaging.get_rpc_transport(conf, url=FAKE_URL)
    oslo_messaging.get_notification_transport(conf, url=FAKE_URL)
    conf.set_default("transport_url", FAKE_URL)
    conf.set_default("driver", ["messagingv2"], group="oslo_messaging_notifications")
    if url is not None:
        conf.set_override("transport_url", url)
    try:
        rpc = oslo_messaging.get_rpc_transport(conf, allowed_remote_exmods=EXMODS)
        notifications = oslo_messaging.get_notification_transport(conf)
        if url is not None and "oslo_messaging_rabbit" in conf:
            conf.set_override("amqp_durable_queues", True, group="oslo_messaging_rabbit")
        return rpc, notifications
    except (oslo_messaging.DriverLoadFailure, oslo_messaging.InvalidTransportURL) as error:
        raise ValueError(f"[DEFAULT] transport_url cannot be used: {type(error).__name__}") from error


def database_file(directory: Path) -> Path:
    """Return where the embedded database lies in a directory."""
    return directory / "tracker-worker.sqlite"


def configured_engine(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return the engine of `[database] connection`, else of the embedded database under the state path.

    Waits for a server as `[database] max_retries` says. SQLite's schema is brought to the head; that of a
    server, which other workers may be using, is the operator's. Raises ValueError, in words, for a database
    that cannot be used.
    """
    url = conf.database.connection
    where = "[database] connection" if url else f"[DEFAULT] state_path = {conf.state_path}"
    try:
        if not url:
            return embedded_engine(Path(conf.state_path))
        _refuse_memory(url)
        engine = create_engine(url, **engine_options(conf.database))
        if engine.dialect.name == "sqlite":
            sync_schema(engine)
        else:
            _refuse_other_schema(engine)
    except (OSError, ImportError, DBError, SQLAlchemyError) as error:
        raise ValueError(f"{where} cannot be used ({type(error).__name__}): set another") from error
    return engine


def _refuse_memory(url: str) -> None:
    parsed = sa.make_url(url)
    in_memory = ":memory:" in url or "mode=memory" in url or not parsed.database
    if parsed.get_backend_name() == "sqlite" and in_memory:
        raise ValueError("[database] connection: threads would share one transaction in memory; name a file")


def _refuse_other_schema(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = current(connection)
    if found != head():
        raise ValueError(
            f"[database] connection: its schema is at revision {found or 'none'}, this version needs "
            f"{head()}: run tracker-worker-manage db sync"
        )


def embedded_engine(directory: Path) -> sa.Engine:
    """Return the engine of the embedded database in a directory, made if missing, its schema at the head."""
    directory.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{database_file(directory)}")
    sync_schema(engine)
    return engine


def empty_engine(url: str) -> sa.Engine:
    """Return an engine on a database that has no nodes, its schema at the head.

    Raises ValueError, in words, for another database.
    """
    try:
        engine = create_engine(url)
        sync_schema(engine)
        with engine.connect() as connection:
            names = store.names(connection)
    except (OSError, ImportError, DBError, SQLAlchemyError) as error:
        raise ValueError(f"the database cannot be used ({type(error).__name__})") from error
    if names:
        raise ValueError(f"the database has {len(names)} nodes: name an empty one")
    return engine
