# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a configuration that oslo.config accepts silently.

A worker logs them as warnings at start and at a reload. The upgrade check reports them.
"""

import logging
from collections.abc import Iterator
from configparser import ConfigParser, InterpolationError
from configparser import Error as ParsingFailed
from importlib.util import find_spec
from pathlib import Path

import oslo_messaging
from oslo_config import cfg

from tracker_worker.bus.rabbit import tls
from tracker_worker.cmd.unknown_options import unknown_options
from tracker_worker.conf import opts
from tracker_worker.private_apis.oslo_messaging import rabbit_options
from tracker_worker.worker.configuration import RABBIT, preferred_partitions
from tracker_worker.worker.settings import MEBIBYTE

LOG = logging.getLogger(__name__)

_LOGGING_SECTIONS = frozenset(["loggers", "handlers", "formatters"])
RABBIT_GROUP = "oslo_messaging_rabbit"
_DRIVERS = ("messagingv2", "noop")
_REPLACED = {
    ("DEFAULT", "control_exchange"): "the exchanges are [bus] exchange and [notifications] exchange",
    ("database", "slave_connection"): "it reads what it writes, from [database] connection",
    ("oslo_messaging_notifications", "topics"): "set [notifications] topic",
    (RABBIT_GROUP, "rabbit_qos_prefetch_count"): "set [worker] prefetch",
}
"""Options of libraries, by group and name, with what a worker has in their place."""
_LOG = (
    "debug", "default_log_levels", "log_dir", "log_file", "use_journal", "use_json", "use_stderr",
    "use_syslog",
)  # fmt: skip
"""Options that log_config_append overrules, of oslo.log's those that are set most often."""


def log_warnings(conf: cfg.ConfigOpts) -> None:
    """Log a warning for each mistake that this module finds. Call it after the transports are created."""
    for text in (*unknown_options(conf), *unreachable(conf), *without_effect(conf)):
        LOG.warning("%s", text)


def is_transport_configured(conf: cfg.ConfigOpts) -> bool:
    """Tell whether the user has set `transport_url`. Call it after the transports are created."""
    location = conf.get_location("transport_url")
    return location is not None and location.location.is_user_controlled


def unreachable(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line if nothing outside reaches a worker with this configuration, or its notifications."""
    if not conf.transport_url.startswith(opts.TRANSPORT_URL):
        notifications = conf.oslo_messaging_notifications
        own = notifications.transport_url or ""
        if not own.startswith(opts.TRANSPORT_URL) or set(notifications.driver) <= {"noop"}:
            return []
        return [
            f"[oslo_messaging_notifications] transport_url = {opts.TRANSPORT_URL}: no consumer outside of "
            "the worker's own process gets a notification; unset it, or set driver = noop"
        ]
    reason = f"[DEFAULT] transport_url = {opts.TRANSPORT_URL}"
    if not is_transport_configured(conf):
        files = ", ".join(conf.config_file) or "no configuration file was found or given"
        reason = f"[DEFAULT] transport_url is not set ({files})"
    return [f"{reason}: nothing outside of the worker's own process can reach it"]


def unwritable_log(conf: cfg.ConfigOpts, program: str) -> list[str]:
    """Return a line for each reason why a program cannot write its log.

    Nothing is written: a log file that the upgrade check created would belong to the wrong user.
    """
    found: list[str] = []
    if conf.log_config_append:
        found += _faults_of_logging(conf.log_config_append)
    elif conf.log_file or conf.log_dir:
        file = Path(conf.log_dir or "", conf.log_file or f"{program}.log")
        if not file.parent.is_dir():
            found.append(f"[DEFAULT] log_file, log_dir: there is no directory {file.parent}")
        elif file.is_dir():
            found.append(f"[DEFAULT] log_file: {file} is a directory")
    if not conf.log_config_append and conf.use_journal and find_spec("systemd") is None:
        found.append("[DEFAULT] use_journal: the Python package systemd-python is not installed")
    return [*found, *endless_rotation(conf), *_bad_levels(conf)]


def _faults_of_logging(name: str) -> Iterator[str]:
    """Yield a line for each reason why logging cannot be configured by this file."""
    parser = ConfigParser()  # With interpolation, as logging reads it.
    try:
        with open(name) as lines:
            parser.read_file(lines)
        needed = _needed_sections(parser)
        levels = {section: _level_of(parser, section) for section in sorted(needed)}
    except OSError as error:
        yield f"[DEFAULT] log_config_append: {error}; name a file that the worker's user can read"
    except (InterpolationError, ValueError) as error:  # Their texts do not name the file.
        yield f"[DEFAULT] log_config_append = {name}: {error}"
    except ParsingFailed as error:
        yield f"[DEFAULT] log_config_append: {' '.join(str(error).split())}"
    else:
        if missing := sorted(needed - set(parser.sections())):
            yield f"[DEFAULT] log_config_append = {name}: it lacks [{'], ['.join(missing)}]"
        for section, level in levels.items():
            if level is not None and not _is_level(level):
                text = f"[{section}] level: unknown level {level!r}; write one as in level = WARNING"
                yield f"[DEFAULT] log_config_append = {name}: {text}"


def _level_of(parser: ConfigParser, section: str) -> str | None:
    """Return the level of a logger or a handler; None without one. Raises ParsingFailed."""
    is_leveled = section.startswith(("logger_", "handler_"))
    return parser.get(section, "level", fallback=None) if is_leveled else None


def _is_level(name: str) -> bool:
    return name in logging.getLevelNamesMapping()


def _needed_sections(parser: ConfigParser) -> set[str]:
    """Return the sections that a logging configuration needs: one for each logger, handler and formatter."""
    named = {
        f"{section.removesuffix('s')}_{key.strip()}"
        for section in _LOGGING_SECTIONS
        for key in parser.get(section, "keys", fallback="").split(",")
        if key.strip()
    }
    return {*_LOGGING_SECTIONS, *named}


def endless_rotation(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line if log rotation would loop for ever: the standard library does not check the interval."""
    if conf.log_rotation_type == "interval" and conf.log_rotate_interval < 1:
        return ["[DEFAULT] log_rotate_interval: must be 1 or more"]
    return []


def _bad_levels(conf: cfg.ConfigOpts) -> Iterator[str]:
    for pair in conf.default_log_levels:
        logger, _, level = pair.partition("=")
        if not _is_level(level.upper()) and not level.isdecimal():
            yield f"[DEFAULT] default_log_levels: {logger!r} needs a level, as in {logger}=WARNING"


def without_effect(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line for each option that has less effect than it says, with the option to change instead.

    Most of them have none because of the value of another option.
    """
    return [*_ignored_by_tls(conf), *_replaced(conf), *_overruled(conf), *_out_of_reach(conf)]


def _ignored_by_tls(conf: cfg.ConfigOpts) -> Iterator[str]:
    url = oslo_messaging.TransportURL.parse(conf, conf.transport_url)
    names = tls.ignored_options(rabbit_options(conf, url)) if url.transport == RABBIT else []
    if names:
        yield f"[{RABBIT_GROUP}] {', '.join(names)}: no effect, the connection is not encrypted without ssl"


def is_set(conf: cfg.ConfigOpts, group: str, name: str) -> bool:
    """Tell whether the user has set an option."""
    try:
        location = conf.get_location(name, None if group == "DEFAULT" else group)
    except cfg.NoSuchGroupError:  # The group of a transport that is not in use.
        return False
    return location is not None and location.location.is_user_controlled


def _replaced(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield the options of libraries that are set and in whose place a worker has one of its own."""
    for (group, name), way_out in _REPLACED.items():
        if is_set(conf, group, name):
            yield f"[{group}] {name}: no effect on a worker; {way_out}"
    for driver in conf.oslo_messaging_notifications.driver:
        if driver not in _DRIVERS:
            yield (
                f"[oslo_messaging_notifications] driver = {driver}: a worker publishes as with messagingv2; "
                "set messagingv2, or noop for no notifications"
            )


def _overruled(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield the options that are set and that another option makes useless."""
    if conf.log_config_append and (names := [name for name in _LOG if is_set(conf, "DEFAULT", name)]):
        yield f"[DEFAULT] {', '.join(names)}: no effect, the file of log_config_append has all of the logging"
    if not conf.worker.partitions and is_set(conf, "worker", "standby_delay"):
        yield "[worker] standby_delay: no effect, without [worker] partitions all are consumed at once"


def _out_of_reach(conf: cfg.ConfigOpts) -> Iterator[str]:
    """Yield the bounds that another bound keeps a worker from reaching."""
    worker, tracker, partitions = conf.worker, conf.tracker, conf.bus.partitions
    if worker.batch_size > (waiting := worker.prefetch * partitions):
        yield (
            f"[worker] batch_size ({worker.batch_size}): at most {waiting} events wait, [worker] prefetch "
            f"({worker.prefetch}) for each of the [bus] partitions ({partitions}); raise prefetch"
        )
    if worker.batch_bytes > (budget := worker.memory_budget * MEBIBYTE):
        yield (
            f"[worker] batch_bytes ({worker.batch_bytes}): at most {budget} bytes wait; raise [worker] "
            f"memory_budget ({worker.memory_budget} MiB)"
        )
    used = {number % worker.lanes for number in preferred_partitions(worker)}
    if used and len(used) < worker.lanes:
        yield (
            f"[worker] lanes ({worker.lanes}): the lane of a partition is its number modulo lanes, and those "
            f"of [worker] partitions keep {len(used)} busy; name others, or lower lanes"
        )
    if tracker.removed_node_days < tracker.receipt_days:
        yield (
            f"[tracker] receipt_days ({tracker.receipt_days}): the receipts of a removed node are deleted "
            f"after removed_node_days ({tracker.removed_node_days}), and its events may then be applied "
            "again; raise removed_node_days"
        )
