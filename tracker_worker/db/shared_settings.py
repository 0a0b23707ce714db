# SPDX-License-Identifier: Apache-2.0
"""The settings that all workers of one database share, kept by option name as JSON texts."""

from collections.abc import Mapping

import sqlalchemy as sa

from tracker_worker.db import bulk
from tracker_worker.db.tables import SHARED_SETTINGS

_LOAD = sa.select(SHARED_SETTINGS.c.name, SHARED_SETTINGS.c.value)
_DROP = bulk.delete_ids(SHARED_SETTINGS.c.name)
_ADD = bulk.insert(SHARED_SETTINGS, ("name", "value"))


def load(connection: sa.Connection) -> dict[str, str]:
    """Return the stored values by name."""
    return {name: value for name, value in connection.execute(_LOAD)}


def add(connection: sa.Connection, values: Mapping[str, str]) -> None:
    """Insert values of new names. Raises DBDuplicateEntry if another worker has inserted one of them."""
    _ADD.execute(connection, [{"name": name, "value": value} for name, value in values.items()])


def put(connection: sa.Connection, values: Mapping[str, str]) -> None:
    """Store these values and replace existing ones."""
    _DROP.execute(connection, values)
    add(connection, values)
