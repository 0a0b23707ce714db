# SPDX-License-Identifier: Apache-2.0
"""Shared settings: options that must be equal on all workers of one database. Each worker compares at start.

The first worker stores its values in the database. The options of `[bus]` and the type of the queues are
fixed: they determine the queue of an event, so a worker with other values would park the events of all
workers, and does not start. The rules of `[tracker]` and `[pci]` may be changed worker by worker: a worker
whose rules differ logs a warning and stores its own, and the next worker compares with those.
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
    """A setting that is not stored with its configured value. Values are JSON; `stored` may be None."""

    name: str
    stored: str | None
    configured: str

    def __str__(self) -> str:
        return f"{self.name} is {self.configured} here and {self.stored} in the database"


class SharedSettings(Struct, frozen=True):
    """The configured values by option name, as JSON. `fixed` must equal the stored ones, `rules` should."""

    fixed: dict[str, str]
    rules: dict[str, str]


def shared_settings_of(conf: cfg.ConfigOpts, settings: WorkerSettings) -> SharedSettings:
    """Return the shared settings of a configuration."""
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
    """Return the differences from the stored settings, including those that are not stored yet."""
    stored = shared_settings.load(connection)
    return [
        Difference(name, stored.get(name), value)
        for name, value in configured.items()
        if stored.get(name) != value
    ]


def agree(engine: sa.Engine, shared: SharedSettings) -> None:
    """Store new settings. Log the rules that differ, and store their configured values.

    Raises ValueError if a fixed setting differs, with a text for the user. Workers may call it concurrently.
    """
    try:
        _agree(engine, shared)
    except DATABASE_ERRORS as error:
        if not is_duplicate(error):
            raise
        # Another worker has stored its values since this one read: compare with those.
        _agree(engine, shared)


def _agree(engine: sa.Engine, shared: SharedSettings) -> None:
    with engine.connect() as connection:
        found = differences(connection, shared.fixed | shared.rules)
    differing = [difference for difference in found if difference.stored is not None]
    if wrong := [difference for difference in differing if difference.name in shared.fixed]:
        raise ValueError(refusal(wrong))
    for difference in differing:
        LOG.warning("%s: give all workers of this database the same value", difference)
    # A second transaction: SQLite may refuse to upgrade a read transaction to a write transaction.
    with engine.begin() as connection:
        if new := {each.name: each.configured for each in found if each.stored is None}:
            shared_settings.add(connection, new)
        if differing:
            shared_settings.put(connection, {each.name: each.configured for each in differing})


def refusal(wrong: list[Difference]) -> str:
    """Return why a worker does not start, and how to correct it."""
    text = "; ".join(map(str, wrong))
    return (
        f"{text}: this worker would consume other queues than the clients publish to. Give this worker the "
        f"value of the database. To change the value for all: stop the clients, let the workers empty the "
        f"queues, stop the workers, set the new value everywhere and run '{ACCEPT}'"
    )


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
