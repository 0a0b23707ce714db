# SPDX-License-Identifier: Apache-2.0
"""What the events of a move do to the claims that an instance holds on one node (the transition table).

Each function takes what is held and returns the changes; no changes means that the event was ignored.
I, N, O are the claims of role instance, incoming and outgoing; X(m) is one that migration m brought.
"""

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.node import (
    Claim,
    ClaimDropped,
    ClaimPut,
    Node,
    Role,
    adopted,
)
from tracker_worker.domain.objects import Instance
from tracker_worker.domain.retained import keep_assigned

Changes = tuple[ClaimPut | ClaimDropped, ...]


class Held(Struct, frozen=True):
    """The claims of one instance on one node."""

    instance: Claim | None
    incoming: Claim | None
    outgoing: Claim | None

    def brought_by(self, migration_uuid: str | None) -> Claim | None:
        """Return the incoming claim if it belongs to the migration: N(M)."""
        if self.incoming is not None and self.incoming.migration_uuid == migration_uuid:
            return self.incoming
        return None


def held_by(node: Node, instance_uuid: str) -> Held:
    """Return what an instance holds on a node."""
    return Held(
        node.claim(instance_uuid, Role.INSTANCE),
        node.claim(instance_uuid, Role.INCOMING),
        node.claim(instance_uuid, Role.OUTGOING),
    )


def with_states(claim: Claim, instance: Instance) -> Claim:
    """Return the claim with the instance's states and project; its size stays."""
    return replace(
        claim,
        vm_state=instance.vm_state,
        task_state=instance.task_state,
        project_id=instance.project_id,
    )


def update_states(claim: Claim, instance: Instance) -> Changes:
    """Take over the instance's states, if they differ."""
    updated = with_states(claim, instance)
    return () if updated == claim else (ClaimPut(updated),)


def release(claim: Claim) -> Changes:
    """Let a claim go."""
    return (ClaimDropped(claim.instance_uuid, claim.role),)


def change_role(claim: Claim, role: Role) -> Changes:
    """Change a claim's role; an older claim of that role is released. The sum changes only by that one."""
    return (
        ClaimDropped(claim.instance_uuid, claim.role),
        ClaimPut(replace(claim, role=role)),
    )


def abort_instance_claim(held: Held) -> Changes:
    """The boot failed: its claim goes."""
    return release(held.instance) if held.instance else ()


def drop_move_claim(held: Held, migration_uuid: str | None) -> Changes:
    """The move to here was aborted or rolled back; without a migration any incoming claim is meant."""
    incoming = held.incoming if migration_uuid is None else held.brought_by(migration_uuid)
    return release(incoming) if incoming else ()


def start_move(held: Held, migration_uuid: str) -> Changes:
    """Handed over to the destination: keep the room for a revert.

    An instance that this very migration brought here is not leaving: the event is late.
    """
    claim = held.instance
    if claim is None or held.outgoing is not None:
        return ()
    if claim.migration_uuid == migration_uuid and held.incoming is None:
        return ()
    return change_role(claim, Role.OUTGOING)


def finish_move(held: Held, instance: Instance, migration_uuid: str | None) -> Changes:
    """The instance has landed: what came in is the instance; what was here waits for the confirm."""
    landed = held.brought_by(migration_uuid)
    here = held.instance
    if held.incoming is not None and held.incoming.devices_only:
        return _finish_with_devices(held, held.incoming, instance, migration_uuid)
    if landed is not None:
        leaving = change_role(here, Role.OUTGOING) if here else ()
        return (*leaving, *change_role(with_states(landed, instance), Role.INSTANCE))
    if here is None:
        return (ClaimPut(adopted(instance, Role.INSTANCE, migration_uuid)),)
    if held.outgoing is not None or here.migration_uuid == migration_uuid:
        return update_states(here, instance)
    return (ClaimPut(_landed_on(here, instance, migration_uuid)),)


def _landed_on(here: Claim, instance: Instance, migration_uuid: str | None) -> Claim:
    """Return the claim of an instance that was seen here before its landing was told: in its size.

    Of one that has the same size the pins and devices stay that this worker chose.
    """
    landed = adopted(instance, Role.INSTANCE, migration_uuid)
    return keep_assigned(here, landed, None if instance.pci_devices is None else landed.pci_devices)


def _finish_with_devices(
    held: Held, devices: Claim, instance: Instance, migration_uuid: str | None
) -> Changes:
    """What came in were devices alone: whatever else the landing means, they are the instance's."""
    landed = finish_move(replace(held, incoming=None), instance, migration_uuid)
    here = next((change.claim for change in landed if isinstance(change, ClaimPut)), held.instance)
    assert here is not None, "without an incoming claim a landing never leaves nothing"
    own = held.instance.pci_devices if held.instance else ()
    merged = replace(here, pci_devices=(*own, *devices.pci_devices))
    return (*release(devices), ClaimPut(merged))


def drop_move_claim_at_source(held: Held, migration_uuid: str) -> Changes:
    """Confirmed, or gone for good: what waited for a revert goes; on the same node what came in stays.

    An instance that this very migration brought here is where it should be: the confirm is a repeat, even
    while another move to here is under way.
    """
    landed = held.brought_by(migration_uuid)
    landing = change_role(landed, Role.INSTANCE) if landed else ()
    if held.outgoing is not None:
        return (*release(held.outgoing), *landing)
    if held.instance is None:
        return landing
    if held.instance.migration_uuid == migration_uuid and landed is None:
        return ()
    return (*release(held.instance), *landing)


def drop_move_claim_at_dest(held: Held, migration_uuid: str) -> Changes:
    """Reverted: what the migration brought here goes; on the same node what was here is back."""
    here, outgoing = held.instance, held.outgoing
    if incoming := held.brought_by(migration_uuid):
        back = change_role(outgoing, Role.INSTANCE) if outgoing and here is None else ()
        return (*release(incoming), *back)
    if held.incoming is not None:
        return ()
    if here is None:
        return change_role(outgoing, Role.INSTANCE) if outgoing else ()
    if here.migration_uuid != migration_uuid:
        return ()
    return (*release(here), *(change_role(outgoing, Role.INSTANCE) if outgoing else ()))


def finish_revert_move(held: Held, instance: Instance, migration_uuid: str) -> Changes:
    """The instance is back at the source: what waited for it is the instance again."""
    incoming = held.brought_by(migration_uuid)
    dropped = release(incoming) if incoming else ()
    here, outgoing = held.instance, held.outgoing
    if here is None and outgoing is None:
        return (*dropped, ClaimPut(adopted(instance, Role.INSTANCE, None)))
    if outgoing is None:
        assert here is not None
        return (*dropped, *update_states(here, instance))
    if here is None:
        return (*dropped, *change_role(with_states(outgoing, instance), Role.INSTANCE))
    if here.migration_uuid == migration_uuid:
        return (*dropped, *change_role(with_states(outgoing, instance), Role.INSTANCE))
    return (*dropped, *release(outgoing), *update_states(here, instance))


def release_all(held: Held) -> Changes:
    """The instance is removable: nothing of it stays."""
    return tuple(
        change
        for claim in (held.instance, held.incoming, held.outgoing)
        if claim is not None
        for change in release(claim)
    )
