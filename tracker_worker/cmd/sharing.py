# SPDX-License-Identifier: Apache-2.0
"""What the workers of one database have to agree on: compared at every start, by option name.

The first worker writes its values down. `[bus]` and the kind of the queues decide where an event is found, so
a worker with other values would park the events of all: it does not start. Rules may be changed worker by
worker: one that starts with others says so, and its values are the ones that the next is compared with.
"""

import logging
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.conf import bus, pci, tracker
from tracker_worker.db import shared_settings
from tracker_worker.db.errors import DATABASE_ERRORS, is_duplicate
from tracker_worker.worker.settings import WorkerSettings

LOG = logging.getLogger(__name__)

QUORUM = "[oslo_messaging_rabbit] rabbit_quorum_queue"
_FIXED = ("exchange", "partitions")
ACCEPT = "tracker-worker-manage settings accept"


class Difference(Struct, frozen=True):
    """A setting that the database has otherwise; values are JSON texts, `stored` None for none yet."""

    name: str
    stored: str | None
    configured: str

    def __str__(self) -> str:
        return f"{self.name} is {self.configured} here and {self.stored} in the database"


class SharedSettings(Struct, frozen=True):
    """The configured values by option name, as JSON texts: those that never differ, and the rules."""

    fixed: dict[str, str]
    rules: dict[str, str]


def shared_settings_of(conf: cfg.ConfigOpts, settings: WorkerSettings) -> SharedSettings:
    """Return what a configuration says of the settings that workers share."""
    fixed = {f"[{bus.GROUP.name}] {name}": _text(conf.bus[name]) for name in _FIXED}
    if settings.broker is not None:
        fixed[QUORUM] = _text(settings.broker.quorum)
    rules = {
        f"[{group.GROUP.name}] {option.dest}": _text(conf[group.GROUP.name][option.dest])
        for group in (tracker, pci)
        for option in group.OPTS
    }
    return SharedSettings(fixed, rules)


def differences(connection: sa.Connection, configured: dict[str, str]) -> list[Difference]:
    """Return where the database differs from a configuration, names that it does not have yet included."""
    stored = shared_settings.load(connection)
    return [
        Difference(name, stored.get(name), value)
        for name, value in configured.items()
        if stored.get(name) != value
    ]


def agree(engine: sa.Engine, shared: SharedSettings) -> None:
    """Write down what is not known yet; log the rules that differ, and keep them as they are here.

    Raises ValueError, in words, when a fixed setting differs. May be called by several workers at once.
    """
    try:
        _agree(engine, shared)
    except DATABASE_ERRORS as error:
        if not is_duplicate(error):
            raise
        # Another worker was the first, a moment ago: now there is something to compare.
        _agree(engine, shared)


def _agree(engine: sa.Engine, shared: SharedSettings) -> None:
    with engine.connect() as connection:
        found = differences(connection, shared.fixed | shared.rules)
    differing = [difference for difference in found if difference.stored is not None]
    if wrong := [difference for difference in differing if difference.name in shared.fixed]:
        raise ValueError(refusal(wrong))
    for difference in differing:
        LOG.warning("%s: give all workers of this database the same value", difference)
    # Another transaction than the one that has read: SQLite lets no reader become a writer.
    with engine.begin() as connection:
        if new := {each.name: each.configured for each in found if each.stored is None}:
            shared_settings.add(connection, new)
        if differing:
            shared_settings.put(connection, {each.name: each.configured for each in differing})


def refusal(wrong: list[Difference]) -> str:
    """Return why a worker does not start, and the way out."""
    said = "; ".join(map(str, wrong))
    return (
        f"{said}: events would be looked for in other queues than they are in. Give this worker the value of "
        f"the database. To change it for all: stop all workers and clients, let the queues run empty, set it "
        f"everywhere and run '{ACCEPT}'"
    )


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
