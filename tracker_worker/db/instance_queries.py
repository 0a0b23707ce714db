# SPDX-License-Identifier: Apache-2.0
"""The queries for what nodes hold for an instance, and for its dead letters. Reads only."""

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.tables import CLAIMS, DEAD_LETTERS


class StoredClaim(Struct, frozen=True):
    """A claim of an instance; memory and disk in MB."""

    node: str
    role: str
    migration_uuid: str | None
    project_id: str
    vcpus: int
    memory_mb: int
    disk_mb: int
    vm_state: str
    task_state: str | None
    devices: list[str]


class LetterOfInstance(Struct, frozen=True):
    """A dead letter whose body names an instance."""

    id: str
    recorded_at: datetime
    state: str
    code: str
    node: str | None
    method: str | None
    request_id: str | None


def claims(connection: sa.Connection, instance_uuid: str) -> list[StoredClaim]:
    """Return the claims of an instance on all nodes, by node."""
    columns = [CLAIMS.c[name] for name in StoredClaim.__struct_fields__ if name != "devices"]
    query = sa.select(*columns, CLAIMS.c.pci_devices).where(CLAIMS.c.instance_uuid == instance_uuid)
    found = []
    for row in connection.execute(query.order_by(CLAIMS.c.node, CLAIMS.c.role)).mappings():
        fields = dict(row)
        devices = [device["address"] for device in fields.pop("pci_devices") or ()]
        found.append(StoredClaim(**fields, devices=devices))
    return found


def dead_letters(connection: sa.Connection, instance_uuid: str) -> list[LetterOfInstance]:
    """Return the dead letters whose bodies name an instance, the oldest first."""
    columns = [DEAD_LETTERS.c[name] for name in LetterOfInstance.__struct_fields__]
    query = sa.select(*columns).where(DEAD_LETTERS.c.body.contains(instance_uuid, autoescape=True))
    by_time = query.order_by(DEAD_LETTERS.c.recorded_at, DEAD_LETTERS.c.position)
    return [LetterOfInstance(*row) for row in connection.execute(by_time)]
