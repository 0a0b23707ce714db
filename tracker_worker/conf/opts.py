# SPDX-License-Identifier: Apache-2.0
"""All options of the project, and its defaults for options of libraries.

Both are entry points for oslo-config-generator, so that the sample shows what a worker does by default.
Registering the options imports no library that has options of its own: a command needs few of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import distribution
from types import ModuleType

from oslo_config import cfg

from tracker_worker.conf import bus, health, notifications, pci, placement, tracker, worker
from tracker_worker.domain.partitions import DEFAULT_EXCHANGE

_GROUPS: tuple[ModuleType, ...] = (bus, health, notifications, pci, placement, tracker, worker)

TRANSPORT_URL = "fake://"
"""The in-memory transport: a worker can be started without a broker, to try it."""
_LEVELS = {
    **dict.fromkeys(
        ("alembic", "amqp", "kombu", "oslo_db", "oslo_messaging", "sqlalchemy", "urllib3"), "WARNING"
    ),
    # These also log the errors that they raise, some with a traceback; the caller logs each in one line.
    **dict.fromkeys(("keystoneauth", "oslo_db.sqlalchemy.exc_filters", "stevedore"), "CRITICAL"),
}
"""Minimum levels of libraries' loggers."""
_CONTEXT_FORMAT = (
    "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(instance)s%(message)s"
)
"""oslo.log's, without the user: a command's context is reduced to its request id."""
_QUICK_LIBRARIES = ("oslo.db", "oslo.log")
_LIBRARIES = (*_QUICK_LIBRARIES, "oslo.config", "oslo.messaging", "oslo.reports")

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
        # By name: configurations that register the same group share what is added to it, as plugins do.
        conf.register_opts(module.OPTS, group=module.GROUP.name)


def set_defaults() -> None:
    """Set the defaults of libraries' options, for the whole process: only programs may do so."""
    import oslo_messaging
    from oslo_log import log

    from tracker_worker.private_apis.oslo_messaging import set_option_defaults

    log.set_defaults(_CONTEXT_FORMAT, [f"{name}={level}" for name, level in _LEVELS.items()])
    oslo_messaging.set_transport_defaults(DEFAULT_EXCHANGE)
    set_option_defaults(transport_url=TRANSPORT_URL, notification_drivers=["messagingv2"])


def list_opts() -> list[tuple[str | cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options by group: the entry point of oslo-config-generator."""
    return [("DEFAULT", [STATE_PATH]), *((module.GROUP, module.OPTS) for module in _GROUPS)]


def options_of_workers() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options that a worker reads, by group: those of this project and of its libraries."""
    found = [(_name(group), options) for group, options in list_opts()]
    for library in (*_QUICK_LIBRARIES, "oslo.messaging", "oslo.reports"):
        found += _options_of(library)
    return found


def options_of_plugins(conf: cfg.ConfigOpts) -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options that a plugin of a configuration adds, by group; they are not registered."""
    try:
        return placement.plugin_options(conf)
    except (cfg.Error, ValueError):  # A wrong value is reported where it is used.
        return []


def known_options(conf: cfg.ConfigOpts) -> dict[str, set[str]]:
    """Return the names that configuration files may have, by group, former names included.

    They are the registered options and those of the sample, which has options of unused transports too.
    """
    known = registered_options(conf)
    _add_options_of(_LIBRARIES, known)
    _add(options_of_plugins(conf), known)
    return known


def options_of_commands(conf: cfg.ConfigOpts) -> dict[str, set[str]]:
    """Return the names that `known_options` returns, but without those whose libraries are slow to import."""
    known = registered_options(conf)
    known["DEFAULT"].add("transport_url")
    _add_options_of(_QUICK_LIBRARIES, known)
    return known


def registered_options(conf: cfg.ConfigOpts) -> defaultdict[str, set[str]]:
    """Return the names of the registered options, by group, and the former names of this project's."""
    known = defaultdict(set, {"DEFAULT": set(conf)})
    for name in conf:
        try:
            value = conf[name]
        except (cfg.Error, ValueError):  # A wrong value is reported where it is used.
            continue
        if isinstance(value, cfg.ConfigOpts.GroupAttr):
            known[name] |= set(value)
    _add(((_name(group), options) for group, options in list_opts()), known)
    return known


def _add_options_of(libraries: Iterable[str], known: defaultdict[str, set[str]]) -> None:
    for library in libraries:
        _add(_options_of(library), known)


def _add(options_by_group: Iterable[tuple[str, list[cfg.Opt]]], known: defaultdict[str, set[str]]) -> None:
    for section, options in options_by_group:
        for option in options:
            known[section].add(option.dest)
            for former in option.deprecated_opts:
                known[former.group or section].add(former.name or option.name)


@cache
def _options_of(library: str) -> Sequence[tuple[str, list[cfg.Opt]]]:
    """Return the options of a library by group, from its entry point for oslo-config-generator."""
    # Its own entry points only: to look through those of all distributions takes longer than many commands.
    (entry_point,) = distribution(library).entry_points.select(group="oslo.config.opts", name=library)
    return [(_name(group), options) for group, options in entry_point.load()()]


def _name(group: str | cfg.OptGroup | None) -> str:
    return group.name if isinstance(group, cfg.OptGroup) else group or "DEFAULT"
