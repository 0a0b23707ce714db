# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a configuration that oslo.config accepts silently.

A worker logs them as warnings at start and at a reload. The upgrade check reports them.
"""

import logging
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ParsingFailed
from importlib.util import find_spec
from pathlib import Path

import oslo_messaging
from oslo_config import cfg

from tracker_worker import option_errors
from tracker_worker.bus.rabbit import tls
from tracker_worker.conf import opts
from tracker_worker.private_apis.oslo_messaging import rabbit_options
from tracker_worker.worker.configuration import RABBIT

LOG = logging.getLogger(__name__)

_LOGGING_SECTIONS = frozenset(["loggers", "handlers", "formatters"])
RABBIT_GROUP = "oslo_messaging_rabbit"


def log_warnings(conf: cfg.ConfigOpts) -> None:
    """Log a warning for each mistake that this module finds. Call it after the transports are created."""
    for text in (*unknown_options(conf), *unreachable(conf), *without_effect(conf)):
        LOG.warning("%s", text)


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line for each option in the configuration files that no code reads, with its file.

    No line contains a value. Raises cfg.Error for a file that cannot be read.
    """
    return option_errors.unknown_options(conf, opts.known_options(conf))


def is_transport_configured(conf: cfg.ConfigOpts) -> bool:
    """Tell whether the user has set `transport_url`. Call it after the transports are created."""
    location = conf.get_location("transport_url")
    return location is not None and location.location.is_user_controlled


def unreachable(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line if compute managers cannot reach a worker with this configuration, with the reason."""
    if not conf.transport_url.startswith(opts.TRANSPORT_URL):
        return []
    reason = f"[DEFAULT] transport_url = {opts.TRANSPORT_URL}"
    if not is_transport_configured(conf):
        files = ", ".join(conf.config_file) or "no configuration file was found or given"
        reason = f"[DEFAULT] transport_url is not set ({files})"
    return [f"{reason}: nothing outside of the worker's own process can reach it"]


def unwritable_log(conf: cfg.ConfigOpts, program: str) -> list[str]:
    """Return a line for each reason why a program cannot write its log.

    Nothing is written: a log file that the upgrade check created would belong to the wrong user.
    """
    found = []
    if name := conf.log_config_append:
        parser = ConfigParser(interpolation=None)
        try:
            with open(name) as lines:
                parser.read_file(lines)
        except (OSError, ValueError, ParsingFailed) as error:
            found.append(f"[DEFAULT] log_config_append: {' '.join(str(error).split())}")
        else:
            if missing := sorted(_LOGGING_SECTIONS - set(parser.sections())):
                found.append(f"[DEFAULT] log_config_append = {name}: it lacks [{'], ['.join(missing)}]")
    elif conf.log_file or conf.log_dir:
        file = Path(conf.log_dir or "", conf.log_file or f"{program}.log")
        if not file.parent.is_dir():
            found.append(f"[DEFAULT] log_file, log_dir: there is no directory {file.parent}")
        elif file.is_dir():
            found.append(f"[DEFAULT] log_file: {file} is a directory")
    if not conf.log_config_append and conf.use_journal and find_spec("systemd") is None:
        found.append("[DEFAULT] use_journal: the Python package systemd-python is not installed")
    return [*found, *endless_rotation(conf), *_bad_levels(conf)]


def endless_rotation(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line if log rotation would loop for ever: the standard library does not check the interval."""
    if conf.log_rotation_type == "interval" and conf.log_rotate_interval < 1:
        return ["[DEFAULT] log_rotate_interval: must be 1 or more"]
    return []


def _bad_levels(conf: cfg.ConfigOpts) -> Iterator[str]:
    for pair in conf.default_log_levels:
        logger, _, level = pair.partition("=")
        if level.upper() not in logging.getLevelNamesMapping() and not level.isdecimal():
            yield f"[DEFAULT] default_log_levels: {logger!r} needs a level, as in {logger}=WARNING"


def without_effect(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line for options that have no effect because of the value of another option."""
    url = oslo_messaging.TransportURL.parse(conf, conf.transport_url)
    names = tls.ignored_options(rabbit_options(conf, url)) if url.transport == RABBIT else []
    if not names:
        return []
    return [f"[{RABBIT_GROUP}] {', '.join(names)}: no effect, the connection is not encrypted without ssl"]
