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
from sqlalchemy.exc import OperationalError

from tracker_worker.conf import opts
from tracker_worker.db.engine import create_engine, sync_schema

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


def transports(conf: cfg.ConfigOpts) -> tuple[Any, Any]:
    """Return the RPC and the notification transport; notifications are on unless their driver is noop.

    Raises ValueError, in words, for a transport that cannot be used.
    """
    rpc = oslo_messaging.get_rpc_transport(conf, url=FAKE_URL)
    notifications = oslo_messaging.get_notification_transport(conf, url=FAKE_URL)
    conf.set_default("transport_url", FAKE_URL)
    conf.set_default("driver", ["messagingv2"], group="oslo_messaging_notifications")
    if not conf.transport_url.startswith(FAKE_URL):
        raise ValueError("[DEFAULT] transport_url: this version knows fake:// only")
    return rpc, notifications


def database_file(directory: Path) -> Path:
    """Return where the embedded database lies in a directory."""
    return directory / "tracker-worker.sqlite"


def configured_engine(conf: cfg.ConfigOpts) -> sa.Engine:
    """Return the engine of `[database] connection`, else of the embedded database under the state path.

    Raises ValueError, in words, for a database that cannot be used.
    """
    url = conf.database.connection
    if url and not url.startswith("sqlite"):
        raise ValueError("[database] connection: this version knows SQLite only")
    if url and (":memory:" in url or "mode=memory" in url or not sa.make_url(url).database):
        raise ValueError("[database] connection: threads would share one transaction in memory; name a file")
    try:
        if not url:
            return embedded_engine(Path(conf.state_path))
        engine = create_engine(url)
        sync_schema(engine)
    except (OSError, DBError, OperationalError) as error:
        where = "[database] connection" if url else f"[DEFAULT] state_path = {conf.state_path}"
        raise ValueError(f"{where} cannot be used ({type(error).__name__}): set another") from error
    return engine


def embedded_engine(directory: Path) -> sa.Engine:
    """Return the engine of the embedded database in a directory, made if missing, its schema at the head."""
    directory.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{database_file(directory)}")
    sync_schema(engine)
    return engine
