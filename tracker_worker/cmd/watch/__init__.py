# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-watch: shows the notifications of the workers as they come."""

import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NoReturn

import amqp
from oslo_config import cfg

from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.notification_listener import NotificationListener
from tracker_worker.cmd import bootstrap
from tracker_worker.cmd.broker import reporting_broker_errors
from tracker_worker.cmd.command_line import is_debug
from tracker_worker.cmd.failures import CommandFailed, exit_code_of, log_to_stderr, reading_options
from tracker_worker.cmd.manage.session import settings_of
from tracker_worker.cmd.watch.loop import Clocks, Watch
from tracker_worker.cmd.watch.outputs import (
    PROGRAM,
    JsonLines,
    Lines,
    Once,
    is_screen_possible,
    print_picture,
    screen,
)
from tracker_worker.cmd.watch.picture import Picture
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.cmd.watch.stored import stored_usages
from tracker_worker.worker.settings import WorkerSettings

TERMINATED = 128 + signal.SIGTERM

OPTIONS = [
    cfg.MultiStrOpt(
        "node",
        default=[],
        metavar="PATTERN",
        help="Only nodes with names like this, such as 'compute-1*'. May be repeated.",
    ),
    cfg.MultiStrOpt(
        "event",
        default=[],
        metavar="PATTERN",
        help="""
Only events of types like this, such as 'claim.error' or '*.error'. May be repeated.

The usage of the nodes is shown in any case.
""",
    ),
    # argparse takes --project for it, which is a name that oslo.config reserves.
    cfg.StrOpt("project-id", metavar="ID", help="Only nodes on which this project has instances."),
    cfg.BoolOpt(
        "json",
        default=False,
        help="Print the JSON of each notification, as it came, on a line.",
    ),
    cfg.BoolOpt("once", default=False, help="End after --seconds, and print the picture of that time."),
    cfg.FloatOpt("seconds", default=5.0, min=0.1, help="Seconds that --once waits for notifications."),
]


def main() -> int:
    """Watch; exit code 0 done, 1 failure, 2 wrong command line, 130 interrupted, 143 terminated."""
    return run(cfg.CONF, sys.argv[1:])


def run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    """Watch with this configuration; return the exit code."""
    bootstrap.register(conf)
    conf.register_cli_opts(OPTIONS)
    return exit_code_of(PROGRAM, lambda: _run(conf, arguments), failed=1)


def _run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    with reading_options(conf):
        conf(
            arguments,
            project="tracker-worker",
            prog=PROGRAM,
            version=version("tracker-worker"),
            description="Show the notifications of the workers as they come, until Ctrl-C.",
            epilog="Examples: tracker-worker-watch --node 'rack7-*' (nodes of a rack); tracker-worker-watch "
            "--event '*.error' (errors and refused claims); tracker-worker-watch --once --seconds 10 > "
            "picture.txt (one picture). Exit status: 0 --once is done, 1 failure, 2 wrong command line, 130 "
            "interrupted, 143 terminated.",
        )
    log_to_stderr(debug=is_debug(arguments))
    # The default action would leave the terminal as it is, without a cursor.
    signal.signal(signal.SIGTERM, _terminate)
    settings = settings_of(conf)
    broker = _broker_of(settings)
    listener = NotificationListener(broker, settings.notification_exchange, settings.notification_topic)
    own = conf[bootstrap.NOTIFICATIONS].transport_url
    option = f"[{bootstrap.NOTIFICATIONS if own else 'DEFAULT'}] transport_url"
    # The watch waits for a missing exchange. Nothing else gets better by itself before the first connection.
    with reporting_broker_errors(broker, option), suppress(amqp.NotFound):
        listener.connect()
    try:
        _show(conf, listener, broker)
    finally:
        listener.close()
    return 0


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _broker_of(settings: WorkerSettings) -> BrokerSettings:
    """Return the broker of the notifications. Raises CommandFailed if there are none on RabbitMQ."""
    if settings.notification_broker is None:
        raise CommandFailed(
            "[DEFAULT] transport_url names no RabbitMQ: only listeners in a worker's own process receive its "
            "notifications"
        )
    if not settings.notify:
        raise CommandFailed("[oslo_messaging_notifications] driver = noop: workers publish no notifications")
    return settings.notification_broker


def _show(conf: cfg.ConfigOpts, listener: NotificationListener, broker: BrokerSettings) -> None:
    selection = Selection(tuple(conf.node), tuple(conf.event), conf.project_id)
    picture = Picture(selection)
    clocks = Clocks(time.monotonic, lambda: datetime.now(UTC), time.sleep)
    watch = Watch(listener, broker, picture, stored_usages(conf, selection), clocks)
    seconds = conf.seconds if conf.once else None
    if conf.json:
        watch.run(JsonLines(), seconds)
    elif conf.once:
        watch.run(Once(), seconds)
        print_picture(picture, watch.status, clocks.monotonic())
    elif is_screen_possible():
        with screen() as output:
            watch.run(output)
    else:
        watch.run(Lines())
