# SPDX-License-Identifier: Apache-2.0
"""tracker-worker: the daemon. TERM and INT drain, HUP applies the options that may change while it runs."""

import queue
import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Any

from oslo_config import cfg
from oslo_log import log
from sqlalchemy import Engine

from tracker_worker.cmd import embedded, sharing
from tracker_worker.worker.service import Worker, WorkerSettings, settings_from

LOG = log.getLogger(__name__)

FAILED = 0
"""Stands among the signals for a thread that ended by an error."""


def main() -> int:
    """Run a worker until TERM or INT; 0 when all that was taken was finished, 1 otherwise."""
    conf = cfg.CONF
    embedded.register(conf)
    try:
        conf(sys.argv[1:], project="tracker-worker", version=version("tracker-worker"))
        log.setup(conf, "tracker-worker")
        rpc, notifications = embedded.transports(conf)
        settings = settings_from(conf)
        engine = embedded.configured_engine(conf)
        sharing.agree(engine, sharing.shared_settings_of(conf, settings))
    except (ValueError, cfg.Error) as error:
        sys.exit(f"tracker-worker: {error}")
    scheme = conf.transport_url.partition("://")[0]
    broker = settings.broker.name if settings.broker else f"{scheme}:// (this process only)"
    LOG.info("Database %s, commands from %s", engine.url, broker)
    return _run(conf, settings, engine, rpc, notifications)


def _run(conf: cfg.ConfigOpts, settings: WorkerSettings, engine: Engine, rpc: Any, notifications: Any) -> int:
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        signals.put(number)

    worker = Worker(settings, engine, rpc, notifications, lambda: signals.put(FAILED))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    worker.start()
    LOG.info("Started with %d partitions, %d lanes", settings.partitions, settings.lanes)
    while (received := signals.get()) == signal.SIGHUP:
        _apply_changed_options(conf)
    drained = worker.stop()
    engine.dispose()
    LOG.info("Stopped")
    return 0 if drained and received != FAILED else 1


def _apply_changed_options(conf: cfg.ConfigOpts) -> None:
    """A file that cannot be read changes nothing, and never stops a worker that runs."""
    try:
        changed = conf.mutate_config_files()
    except cfg.Error as error:
        LOG.error("The configuration was not read again: %s", error)
    else:
        LOG.info("Options changed: %s", ", ".join(name for _, name in changed) or "none")
