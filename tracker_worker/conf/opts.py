# SPDX-License-Identifier: Apache-2.0
"""All options of the project, and its defaults for options of libraries.

Both are entry points for oslo-config-generator, so that the sample shows what a worker does by default.
"""

from collections import defaultdict
from collections.abc import Mapping, Set
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from tracker_worker.conf import bus, health, notifications, pci, tracker, worker
from tracker_worker.domain.partitions import DEFAULT_EXCHANGE
from tracker_worker.private_apis.oslo_messaging import set_option_defaults

_GROUPS: tuple[ModuleType, ...] = (bus, health, notifications, pci, tracker, worker)

TRANSPORT_URL = "fake://"
"""The in-memory transport: a worker can be started without a broker, to try it."""
_LEVELS = {
    **dict.fromkeys(
        ("alembic", "amqp", "kombu", "oslo_db", "oslo_messaging", "sqlalchemy", "urllib3"), "WARNING"
    ),
    # These also log a traceback of each error that they raise; the caller logs that error in one line.
    **dict.fromkeys(("oslo_db.sqlalchemy.exc_filters", "stevedore"), "CRITICAL"),
}
"""Minimum levels of libraries' loggers."""
_CONTEXT_FORMAT = (
    "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(instance)s%(message)s"
)
"""oslo.log's, without the user: a command's context is reduced to its request id."""
_LIBRARIES = ("oslo.config", "oslo.db", "oslo.log", "oslo.messaging", "oslo.reports")

STATE_PATH = cfg.StrOpt(
    "state_path",
    default="/var/lib/tracker-worker",
    sample_default="/var/lib/tracker-worker",
    help="""
Directory of the embedded SQLite database, used while [database] connection is not set.

Change it where the service's user cannot write there.
""",
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option of this project."""
    conf.register_opt(STATE_PATH)
    for module in _GROUPS:
        conf.register_group(module.GROUP)
        conf.register_opts(module.OPTS, group=module.GROUP)


def set_defaults() -> None:
    """Set the defaults of libraries' options, for the whole process: only programs may do so."""
    log.set_defaults(_CONTEXT_FORMAT, [f"{name}={level}" for name, level in _LEVELS.items()])
    oslo_messaging.set_transport_defaults(DEFAULT_EXCHANGE)
    set_option_defaults(transport_url=TRANSPORT_URL, notification_drivers=["messagingv2"])


def list_opts() -> list[tuple[str | cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options by group: the entry point of oslo-config-generator."""
    return [("DEFAULT", [STATE_PATH]), *((module.GROUP, module.OPTS) for module in _GROUPS)]


def known_options(conf: cfg.ConfigOpts) -> dict[str, set[str]]:
    """Return the names that configuration files may have, by group, former names included.

    They are the registered options and those of the sample, which has options of unused transports too.
    """
    known = defaultdict(set, {"DEFAULT": set(conf)})
    for name in conf:
        try:
            value = conf[name]
        except (cfg.Error, ValueError):  # A wrong value is reported where it is used.
            continue
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            known[name] |= set(value)
    for section, names in _library_options().items():
        known[section] |= names
    return known


@cache
def _library_options() -> Mapping[str, Set[str]]:
    """Return the names of the libraries' options, by group. Reading the entry points takes many files."""
    installed = entry_points(group="oslo.config.opts")
    names = defaultdict[str, set[str]](set)
    for library in _LIBRARIES:
        for group, options in installed[library].load()():
            section = getattr(group, "name", group) or "DEFAULT"
            for option in options:
                names[section].add(option.dest)
                for former in option.deprecated_opts:
                    names[former.group or section].add(former.name)
    return names
