# SPDX-License-Identifier: Apache-2.0
"""The queries for the nodes of claims, by instance and by migration. Reads only."""

from collections.abc import Iterable

import sqlalchemy as sa

from tracker_worker.db.bulk import TEXT_IDS, as_ids
from tracker_worker.db.tables import CLAIMS, NODES
from tracker_worker.domain.claim_places import ClaimPlace
from tracker_worker.domain.held_claims import Role

_PLACES = sa.select(*(CLAIMS.c[field] for field in ClaimPlace.__struct_fields__)).where(
    sa.or_(CLAIMS.c.instance_uuid.in_(TEXT_IDS), CLAIMS.c.migration_uuid.in_(TEXT_IDS))
)


def places(connection: sa.Connection, uuids: Iterable[str]) -> list[ClaimPlace]:
    """Return the claims, on all nodes, of these instances and of these migrations: one statement.

    All claims are read, for an index by instance would cost each event more than it is worth.
    """
    return [
        ClaimPlace(row.node, row.instance_uuid, Role(row.role), row.migration_uuid, row.task_state)
        for row in connection.execute(_PLACES, as_ids(uuids))
    ]


def recorded_nodes(connection: sa.Connection) -> list[str]:
    """Return the names of all nodes that have a row: tracked ones, and removed ones that are not purged."""
    return sorted(connection.scalars(sa.select(NODES.c.name)))
