# SPDX-License-Identifier: Apache-2.0
"""tracker-worker: the daemon. TERM and INT drain."""

import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from types import FrameType
from typing import Any

from oslo_config import cfg
from oslo_log import log
from sqlalchemy import Engine

from tracker_worker.cmd import embedded
from tracker_worker.worker.service import Worker, WorkerSettings, settings_from

LOG = log.getLogger(__name__)


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
    except (ValueError, cfg.Error) as error:
        sys.exit(f"tracker-worker: {error}")
    LOG.info("Database %s, transport fake:// (this process only)", engine.url)
    return _run(settings, engine, rpc, notifications)


def _run(settings: WorkerSettings, engine: Engine, rpc: Any, notifications: Any) -> int:
    stop = threading.Event()
    failures = threading.Event()

    def fail() -> None:
        failures.set()
        stop.set()

    worker = Worker(settings, engine, rpc, notifications, fail)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _setter(stop))
    worker.start()
    LOG.info("Started with %d partitions, %d lanes", settings.partitions, settings.lanes)
    stop.wait()
    drained = worker.stop()
    engine.dispose()
    LOG.info("Stopped")
    return 0 if drained and not failures.is_set() else 1


def _setter(event: threading.Event) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that sets an event."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        event.set()

    return handle
