# SPDX-License-Identifier: Apache-2.0
"""Where an instance, or the migration of one, has claims."""

from msgspec import Struct

from tracker_worker.domain.held_claims import Role


class ClaimPlace(Struct, frozen=True):
    """The node of a claim, and what tells whether its instance is moving."""

    node: str
    instance_uuid: str
    role: Role
    migration_uuid: str | None
    task_state: str | None
