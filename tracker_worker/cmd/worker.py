# SPDX-License-Identifier: Apache-2.0
"""tracker-worker: the daemon. TERM and INT drain and stop it, HUP reloads mutable options, USR2 reports."""

import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from oslo_config import cfg
from oslo_log import log
from sqlalchemy import Engine

from tracker_worker.cmd import bootstrap, misconfiguration, report, sharing
from tracker_worker.cmd.database import DATABASE_ERRORS, database_text
from tracker_worker.cmd.failures import (
    CommandFailed,
    configuration_text,
    exit_code_of,
    reading_options,
)
from tracker_worker.cmd.reload import reload_options
from tracker_worker.cmd.signals import FAILED, Signals
from tracker_worker.cmd.systemd import Notifier
from tracker_worker.cmd.urls import without_secrets
from tracker_worker.core.error_text import error_text
from tracker_worker.core.urls import printable_url
from tracker_worker.placement.api import Observe, PlacementApi
from tracker_worker.worker.health import HealthSettings
from tracker_worker.worker.monitor import Monitor
from tracker_worker.worker.service import Worker, utc_now
from tracker_worker.worker.settings import WorkerSettings

LOG = log.getLogger(__name__)

PROGRAM = "tracker-worker"
UMASK = 0o027
"""Bits that are always set in the worker's umask."""
GARBAGE = (20_000, 10, 50)
"""Thresholds of Python's garbage collector. A full collection looks at all nodes that are held, which are
freed without it: they are in no cycle. It comes after 10,000,000 new objects, by default after 70,000, and
the smallest collection after 20,000, which is one or two a batch, in place of 700.
"""


def main() -> int:
    """Run a worker until TERM or INT; exit code 0 if it has drained, 1 otherwise.

    Only the worker's user and group can read its log files.
    """
    os.umask(os.umask(UMASK) | UMASK)
    if sys.stderr is not None:
        faulthandler.enable()  # systemd's watchdog ends a process by ABRT: the stacks go to its journal.
    return run(cfg.CONF, sys.argv[1:])


def run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    """Run a worker with this configuration; return the exit code. Call it on the main thread."""
    bootstrap.register(conf)
    report.register(conf)
    systemd = Notifier(os.environ)
    signals = Signals(lambda number: _react(conf, systemd, number))
    return exit_code_of(PROGRAM, lambda: _run(conf, arguments, signals, systemd), failed=1)


def _run(conf: cfg.ConfigOpts, arguments: list[str], signals: Signals, systemd: Notifier) -> int:
    with reading_options(conf):
        conf(
            arguments,
            project=PROGRAM,
            version=version(PROGRAM),
            description="Run a worker until TERM or INT; HUP reloads the mutable options.",
            epilog="Exit status: 0 all that was received was processed, 1 failure (the log says which), 2 "
            "wrong command line. Example: tracker-worker --config-file /etc/tracker-worker/worker.conf",
        )
    _set_up_log(conf)
    reason = None
    try:
        rpc, notifications = bootstrap.transports(conf)
        settings = bootstrap.settings_of(conf)
        misconfiguration.log_warnings(conf)
        report.watch_file(conf, PROGRAM)
        # A signal abandons it: it may retry the connection to a server for ever.
        engine = signals.run("database", lambda: _database(conf, settings), abandon=True)
        if engine is None:
            LOG.info("Stopped before the database was reached: nothing was received")
            return 0
        failed = partial(signals.post, FAILED)
        placement = _placement(conf, settings)
        worker = Worker(settings, engine, rpc, notifications, failed, systemd.alive, placement)
        monitor = _monitor(worker, settings.health, engine, failed)
    except (ValueError, cfg.Error) as error:
        reason = configuration_text(error)
    if reason is not None:  # Outside of the except clause: oslo.log appends a handled exception.
        LOG.critical("Not started: %s", reason)
        raise CommandFailed(reason)
    assert engine is not None
    database = printable_url(engine.url.render_as_string(hide_password=False))
    broker = (
        settings.broker.name
        if settings.broker
        else f"{printable_url(conf.transport_url)} (this process only)"
    )
    LOG.info("Database %s, commands from %s", database, broker)
    if monitor is not None:
        monitor.start()
        LOG.info("Health and metrics on %s, port %d", settings.health.host, settings.health.port)
    gc.set_threshold(*GARBAGE)
    gc.freeze()  # What was imported stays, and no collection has to look at it.
    code = _serve(settings, signals, worker, systemd)
    if monitor is not None:
        monitor.stop()
    engine.dispose()
    return code


def _placement(conf: cfg.ConfigOpts, settings: WorkerSettings) -> Callable[[Observe], PlacementApi] | None:
    """Return what makes the client of Placement; None where no node is synced, and nothing is imported.

    Raises ValueError for options that cannot be used.
    """
    if settings.placement is None:
        return None
    for warning in settings.placement.provider_configs.warnings:
        LOG.warning("%s", warning)
    from tracker_worker.cmd.placement import placement_client

    placement_client(conf)
    return partial(placement_client, conf)


def _set_up_log(conf: cfg.ConfigOpts) -> None:
    """Configure logging from the options. Raises CommandFailed."""
    for text in misconfiguration.endless_rotation(conf):
        raise CommandFailed(text)
    try:
        log.setup(conf, PROGRAM)
        _try_formats()
    except Exception as error:  # logging evaluates expressions in its configuration: they may raise anything.
        raise CommandFailed(
            f"the log cannot be written: {error_text(error)}; see {_options_of_log(conf)}"
        ) from error


def _options_of_log(conf: cfg.ConfigOpts) -> str:
    """Return where the logging comes from."""
    if conf.log_config_append:
        return f"{conf.log_config_append}, the file of [DEFAULT] log_config_append"
    return (
        "[DEFAULT] log_file, log_dir, log_config_append, default_log_levels, logging_*_format_string, "
        "use_journal and use_syslog"
    )


def _try_formats() -> None:
    """Format one record of each kind.

    With an invalid format, logging would print a traceback for each record instead of raising the error.
    """
    for handler in logging.root.handlers:
        for level in (logging.DEBUG, logging.INFO, logging.CRITICAL):
            handler.format(logging.LogRecord(PROGRAM, level, __file__, 1, "", (), None))


def _database(conf: cfg.ConfigOpts, settings: WorkerSettings) -> Engine:
    """Return the engine after comparing the shared settings with the database. Raises ValueError."""
    engine = bootstrap.configured_engine(conf)
    try:
        sharing.agree(engine, sharing.shared_settings_of(conf, settings))
    except DATABASE_ERRORS as error:
        raise ValueError(database_text(conf, error)) from error
    return engine


def _monitor(
    worker: Worker, settings: HealthSettings, engine: Engine, failed: Callable[[], None]
) -> Monitor | None:
    """Return what serves health and metrics, None if no port is set. Raises ValueError if it is not free."""
    if settings.port is None:
        return None
    try:
        return Monitor(
            worker, engine, settings, settings.port, without_secrets, time.monotonic, utc_now, failed
        )
    except OSError as error:
        raise ValueError(
            f"[health] host, port: the worker cannot listen on {settings.host}, port {settings.port}: "
            f"{error_text(error)}"
        ) from error


def _serve(settings: WorkerSettings, signals: Signals, worker: Worker, systemd: Notifier) -> int:
    report.describe(worker, settings.exchange)
    worker.start()
    systemd.ready()
    LOG.info("Started, partitions: %d, lanes: %d", settings.partitions, settings.lanes)
    if settings.preferred_partitions:
        first = ", ".join(map(str, sorted(settings.preferred_partitions)))
        LOG.info("Partitions %s are consumed at once, the others as a standby", first)
    ended_by = signals.wait_for_end()
    systemd.stopping()
    drained = signals.run("stop", worker.stop, abandon=False)
    if drained and ended_by != FAILED:
        LOG.info("Stopped")
        return 0
    LOG.info("Stopped with exit code 1: the error is logged above")
    return 1


def _react(conf: cfg.ConfigOpts, systemd: Notifier, number: int) -> None:
    """Reload on HUP, report on USR2. USR1 was the report's signal in former releases of OpenStack."""
    if number == signal.SIGHUP:
        systemd.reloading(time.monotonic())
        reload_options(conf)
        systemd.ready()
    elif number == signal.SIGUSR2:
        report.write_report(conf, PROGRAM)
    else:
        LOG.info("%s is ignored: USR2 writes a report", signal.Signals(number).name)
