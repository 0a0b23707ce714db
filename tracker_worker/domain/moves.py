# SPDX-License-Identifier: Apache-2.0
"""The changes that a command makes to the claims of an instance on one node, by the table of `transitions`.

Changes are the difference between the claims before and after the command. If there are none, the command is
ignored, or its claim is held already.
"""

from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.held_claims import Claim, Role, adopted
from tracker_worker.domain.node import ClaimDropped, ClaimPut, Node
from tracker_worker.domain.objects import Instance
from tracker_worker.domain.retained import keep_assigned
from tracker_worker.domain.transitions import STAY, Action, Label, Source, State, Transition, transition

Changes = tuple[ClaimPut | ClaimDropped, ...]
_ROLES = (Role.INSTANCE, Role.INCOMING, Role.OUTGOING)

Held = tuple[Claim | None, Claim | None, Claim | None]
"""The claims of one instance on one node: I, N and O, in the order of the roles."""


class Given(Struct, frozen=True):
    """The data of a command that a row may use: its migration M, its instance, or the claim granted to it."""

    migration_uuid: str | None = None
    instance: Instance | None = None
    claimed: Claim | None = None


def held_by(node: Node, instance_uuid: str) -> Held:
    """Return the claims of an instance on a node."""
    return (
        node.claim(instance_uuid, Role.INSTANCE),
        node.claim(instance_uuid, Role.INCOMING),
        node.claim(instance_uuid, Role.OUTGOING),
    )


def state_of(held: Held, migration_uuid: str | None) -> State:
    """Return the labels of held claims for a command whose migration M is this one."""
    here, incoming, outgoing = held
    return (
        _label(here, migration_uuid),
        _label(incoming, migration_uuid),
        _label(outgoing, migration_uuid),
    )


def changes_of(held: Held, action: Action, given: Given) -> Changes:
    """Return the changes that a command makes, by its row in the table."""
    row = transition(action, state_of(held, given.migration_uuid))
    changes: list[ClaimPut | ClaimDropped] = []
    for role, own, before, source in zip(_ROLES, STAY, held, row.after, strict=True):
        after = before if source is own else _claim_from(source, role, held, given)
        if after is not None and role is Role.INSTANCE:
            after = _with_taken(after, row, held, given)
        if after is before:
            continue
        if after is None:
            assert before is not None
            changes.append(ClaimDropped(before.instance_uuid, role))
        elif after != before:
            changes.append(ClaimPut(after))
    return tuple(changes)


def with_states(claim: Claim, instance: Instance) -> Claim:
    """Return the claim with the instance's states and project; its size stays."""
    return replace(
        claim,
        vm_state=instance.vm_state,
        task_state=instance.task_state,
        project_id=instance.project_id,
    )


def _label(claim: Claim | None, migration_uuid: str | None) -> Label:
    if claim is None:
        return Label.NONE
    if claim.devices_only:
        return Label.DEVICES
    return Label.M if claim.migration_uuid == migration_uuid else Label.OTHER


def _claim_from(source: Source, role: Role, held: Held, given: Given) -> Claim | None:
    """Return the claim that a role gets from another source than itself."""
    here, incoming, outgoing = held
    match source:
        case Source.NONE:
            return None
        case Source.I:
            return _in_role(here, role)
        case Source.N:
            return _in_role(incoming, role)
        case Source.O:
            return _in_role(outgoing, role)
        case Source.ARRIVED:
            return _arrived(given)
        case Source.RETURNED:
            return replace(_arrived(given), migration_uuid=None)
        case Source.RESIZED:
            return _resized(here, given)
        case Source.CLAIMED:
            return given.claimed
        case _:
            assert_never(source)


def _in_role(claim: Claim | None, role: Role) -> Claim | None:
    return None if claim is None else replace(claim, role=role)


def _arrived(given: Given) -> Claim:
    assert given.instance is not None, "the rows that adopt are of commands with an instance"
    return adopted(given.instance, Role.INSTANCE, given.migration_uuid)


def _resized(here: Claim | None, given: Given) -> Claim:
    """Return the claim of an instance that had a claim here before its move finished, in the reported size.

    If the size is the same, the pinning and the devices that this worker chose are kept.
    """
    landed = _arrived(given)
    assert here is not None and given.instance is not None
    reported = None if given.instance.pci_devices is None else landed.pci_devices
    return keep_assigned(here, landed, reported)


def _with_taken(claim: Claim, row: Transition, held: Held, given: Given) -> Claim:
    """Return the instance's claim with the states and the incoming claim's devices, if its row says so."""
    here, incoming, _ = held
    if row.states and given.instance is not None:
        claim = with_states(claim, given.instance)
    if row.devices and incoming is not None:
        own = here.pci_devices if here is not None else ()
        claim = replace(claim, pci_devices=(*own, *incoming.pci_devices))
    return claim
