# SPDX-License-Identifier: Apache-2.0
"""All options of the project, for registration and for oslo-config-generator."""

from types import ModuleType

from oslo_config import cfg

from tracker_worker.conf import bus, notifications, pci, tracker, worker

_GROUPS: tuple[ModuleType, ...] = (bus, notifications, pci, tracker, worker)

STATE_PATH = cfg.StrOpt(
    "state_path",
    default="/var/lib/tracker-worker",
    sample_default="/var/lib/tracker-worker",
    help="""
Directory of the embedded SQLite database, used while [database] connection is not set.

Change it where the service's user may write elsewhere only.
""",
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option of this project."""
    conf.register_opt(STATE_PATH)
    for module in _GROUPS:
        conf.register_group(module.GROUP)
        conf.register_opts(module.OPTS, group=module.GROUP)


def list_opts() -> list[tuple[str | cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options by group: the entry point of oslo-config-generator."""
    return [("DEFAULT", [STATE_PATH]), *((module.GROUP, module.OPTS) for module in _GROUPS)]
