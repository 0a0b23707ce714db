# SPDX-License-Identifier: Apache-2.0
"""The audit: derives the expected claims of a node from the sender's facts and compares them with the ledger.

Source: nova.compute.resource_tracker._update_available_resource, without its bugs 1953359, 1600304, 1611458
and 1834349. doc/source/admin/audits.rst explains the reasons of corrections.
The cost grows with the number of the node's instances only.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.flavors import Flavor, same_numbers
from tracker_worker.domain.held_claims import Claim, Role, adopted, claim_for, with_reported
from tracker_worker.domain.node import ClaimDropped, ClaimPut, LedgerChange, Mark, Node
from tracker_worker.domain.objects import Instance, Migration, Origin, last_change
from tracker_worker.domain.origins import (
    OriginCleared,
)
from tracker_worker.domain.retained import keep_assigned, kept_devices
from tracker_worker.domain.views import ClaimView, claim_view

_RESIZE_TASKS = frozenset(
    (
        "resize_prep",
        "resize_migrating",
        "resize_migrated",
        "resize_finish",
        "rebuilding",
        "rebuild_block_device_mapping",
        "rebuild_spawning",
    )
)

_CONFIRMED_TYPES = ("resize", "migration")
"""Types of moves that end with a confirm, which deletes the old flavor; others never have an old flavor."""

Reason = Literal[
    "instance_here", "move_to_here", "move_from_here",
    "not_here", "role_changed", "size_changed", "migration_changed", "topology_changed", "devices_changed",
    "conflict",
]  # fmt: skip


class Facts(Struct, frozen=True):
    """The instances and migrations of an audit, which include the sender's events up to `as_of`."""

    instances: list[Instance]
    migrations: list[Migration]
    origin: Origin | None
    as_of: int | None


class Correction(Struct, frozen=True):
    """One corrected difference between the ledger and the facts: the old claim, the new one, the reason."""

    action: Literal["added", "released", "changed"]
    instance_uuid: str
    reason: Reason
    old: ClaimView | None
    new: ClaimView | None


class Audit(Struct, frozen=True):
    """The result of an audit: changes of the ledger, marks, and the corrections to publish."""

    changes: tuple[LedgerChange, ...]
    marks: tuple[Mark, ...]
    corrections: tuple[Correction, ...]
    migrations_without_instance: int


class Expected(Struct, frozen=True):
    """A claim that the node should have. `devices_known`: the facts include its devices. `arriving`: it is
    that of a move to this node, and the facts include its migration_uuid.
    """

    claim: Claim
    reason: Reason
    devices_known: bool
    arriving: bool = False


def removable(instance: Instance) -> bool:
    """Tell whether Nova no longer counts an instance (allow_resource_removal). An instance that is being
    unshelved counts (bug 2025480).
    """
    if instance.deleted or instance.vm_state == "deleted":
        return True
    return instance.vm_state == "shelved_offloaded" and instance.task_state != "spawning"


def audit(node: Node, facts: Facts) -> Audit:
    """Compare a tracked node's ledger with the facts. Instances with events after `as_of` are skipped."""
    here = {instance.uuid: instance for instance in facts.instances}
    known = {m.instance_uuid: m.instance for m in facts.migrations if m.instance is not None} | here
    unknown = {m.instance_uuid for m in facts.migrations if m.instance_uuid not in known}
    newer = {uuid for uuid, origin in node.last_origins.items() if _is_newer(origin, facts)}
    moves = _moves(known, facts.migrations)
    changes: list[LedgerChange] = []
    corrections: list[Correction] = []
    for uuid in _every_uuid(node, here, moves):
        if uuid in newer or uuid in unknown:
            continue
        expected = _expected(node.name, uuid, here, moves.get(uuid))
        for change, correction in _differences(node.claims.get(uuid, ()), expected):
            changes += change
            if correction is not None:
                corrections.append(correction)
    return Audit(
        changes=tuple(changes),
        marks=tuple(OriginCleared(uuid) for uuid in node.last_origins if uuid not in newer),
        corrections=tuple(corrections),
        migrations_without_instance=sum(m.instance_uuid in unknown for m in facts.migrations),
    )


def _is_newer(origin: Origin, facts: Facts) -> bool:
    if facts.as_of is None or facts.origin is None:
        return False
    return origin.source == facts.origin.source and origin.sequence > facts.as_of


class _Move(Struct, frozen=True):
    migration: Migration
    instance: Instance


def _every_uuid(node: Node, here: Mapping[str, Instance], moves: Mapping[str, _Move]) -> Iterable[str]:
    """Return each uuid once, in a deterministic order."""
    return dict.fromkeys((*here, *moves, *sorted(node.claims.keys() - here.keys())))


def _moves(known: Mapping[str, Instance], migrations: Iterable[Migration]) -> dict[str, _Move]:
    """Return the move of each instance that is moving: the newest of its current migrations."""
    moves: dict[str, _Move] = {}
    for migration in migrations:
        uuid = migration.instance_uuid
        instance = known.get(uuid)
        if instance is None or not migration.current or not _is_moving(instance):
            continue
        counted = moves.get(uuid)
        if counted is None or last_change(migration) > last_change(counted.migration):
            moves[uuid] = _Move(migration, instance)
    return moves


def _is_moving(instance: Instance) -> bool:
    """Source: _instance_in_resize_state and _instance_is_live_migrating (bug 1791075: every rebuild task)."""
    if removable(instance):
        return False
    state, task = instance.vm_state, instance.task_state
    if state == "resized" or (state in ("active", "stopped") and task in _RESIZE_TASKS):
        return True
    return state in ("active", "paused") and task == "migrating"


def _expected(node: str, uuid: str, here: Mapping[str, Instance], move: _Move | None) -> list[Expected]:
    """Return the claims that an instance should have on the node."""
    instance = here.get(uuid)
    if instance is not None and removable(instance):
        return []
    if move is not None:
        return _expected_of_move(node, instance, move)
    return [_on_this_host(instance)] if instance is not None else []


def _on_this_host(instance: Instance) -> Expected:
    claim = adopted(instance, Role.INSTANCE, None)
    return Expected(claim, "instance_here", instance.pci_devices is not None)


def _expected_of_move(node: str, here: Instance | None, move: _Move) -> list[Expected]:
    migration, instance = move.migration, move.instance
    from_here, to_here = migration.source_node == node, migration.dest_node == node
    if migration.status == "reverted" and instance.task_state == "resize_reverting":
        return _leaving(move) if from_here else []
    if here is None:
        if to_here:
            return [_arriving(move, Role.INCOMING, "move_to_here")]
        return _leaving(move) if from_here else []
    if from_here and to_here:
        if _has_old_flavor(move):
            return [_on_this_host(here), _arriving(move, Role.INCOMING, "move_to_here")]
        return [_arriving(move, Role.INSTANCE, "instance_here"), *_leaving(move)]
    if to_here:
        return [_arriving(move, Role.INSTANCE, "instance_here")]
    return [_on_this_host(here)]


def _arriving(move: _Move, role: Role, reason: Reason) -> Expected:
    """Return the destination's claim of a move; it has the new flavor before the instance (bug 1953359)."""
    migration = move.migration
    if role is Role.INSTANCE and move.instance.vm_state == "resized":
        claim = adopted(move.instance, role, migration.uuid)
        return Expected(claim, reason, move.instance.pci_devices is not None, arriving=True)
    claim = claim_for(move.instance, role, migration.uuid, _flavor_of(move, migration.new_flavor))
    reported = with_reported(claim, migration.new_numa_topology, migration.new_pci_devices)
    return Expected(reported, reason, migration.new_pci_devices is not None, arriving=True)


def _leaving(move: _Move) -> list[Expected]:
    """Return the claim that the source keeps for a revert. A resize or cold migration without an old flavor
    was confirmed and has none (bug 1834349).
    """
    if move.migration.old_flavor is None and move.migration.type in _CONFIRMED_TYPES:
        return []
    migration = move.migration
    claim = claim_for(move.instance, Role.OUTGOING, None, _flavor_of(move, migration.old_flavor))
    reported = with_reported(claim, migration.old_numa_topology, migration.old_pci_devices)
    return [Expected(reported, "move_from_here", migration.old_pci_devices is not None)]


def _flavor_of(move: _Move, flavor: Flavor | None) -> Flavor:
    """Only a resize changes the flavor (nova.compute.resource_tracker._get_flavor)."""
    if move.migration.type == "resize" and flavor is not None:
        return flavor
    return move.instance.flavor


def _has_old_flavor(move: _Move) -> bool:
    """Tell whether an instance that moves within its node still has the old flavor."""
    old, now = move.migration.old_flavor, move.instance.flavor
    if old is None or move.instance.vm_state == "resized":
        return False
    if old.id is not None and now.id is not None:
        return old.id == now.id
    return same_numbers(old, now)


_Difference = tuple[list[LedgerChange], Correction | None]


def _differences(held: tuple[Claim, ...], expected: list[Expected]) -> Iterator[_Difference]:
    """Yield the changes from held to expected claims, releases before puts, because roles may swap."""
    pairs, left_over = _pair(held, expected)
    for claim in left_over:
        yield (
            [ClaimDropped(claim.instance_uuid, claim.role)],
            Correction("released", claim.instance_uuid, "not_here", claim_view(claim), None),
        )
    for old, wanted in pairs:
        if old is not None and old.role is not wanted.claim.role:
            yield [ClaimDropped(old.instance_uuid, old.role)], None
    taken: set[str] = set()
    for old, wanted in sorted(pairs, key=lambda pair: pair[1].claim.role is Role.INSTANCE):
        apart = _without(taken, wanted)
        new = apart.claim if old is None else _keeping(old, apart)
        taken |= _addresses(new)
        if new != old:
            yield [ClaimPut(new)], _correction(old, new, wanted.reason)


def _without(taken: Collection[str], wanted: Expected) -> Expected:
    """Return an expected claim without the devices of the instance's other claim on this node (`taken`).

    During a move within the host Nova reports the devices of source and destination as the instance's.
    """
    own = tuple(device for device in wanted.claim.pci_devices if device.address not in taken)
    return replace(wanted, claim=replace(wanted.claim, pci_devices=own))


def _keeping(old: Claim, wanted: Expected) -> Claim:
    """Merge an expected claim with the held one, whose migration_uuid stays unless the claim is arriving."""
    new = wanted.claim
    reported = new.pci_devices if wanted.devices_known else None
    if old.devices_only:
        return replace(new, pci_devices=kept_devices(old, reported))
    other_move = wanted.arriving and old.migration_uuid != new.migration_uuid
    if not wanted.arriving:
        new = replace(new, migration_uuid=old.migration_uuid)
    if other_move:
        return new
    return keep_assigned(old, new, reported)


def _correction(old: Claim | None, new: Claim, reason: Reason) -> Correction | None:
    """Return the correction of a put, None if only the instance's states have changed."""
    if old is None:
        return Correction("added", new.instance_uuid, reason, None, claim_view(new))
    if old.role is not new.role:
        reason = "role_changed"
    elif old.amounts != new.amounts:
        reason = "size_changed"
    elif old.migration_uuid != new.migration_uuid:
        reason = "migration_changed"
    elif old.numa_topology != new.numa_topology:
        reason = "topology_changed"
    elif _addresses(old) != _addresses(new):
        reason = "devices_changed"
    else:
        return None
    return Correction("changed", new.instance_uuid, reason, claim_view(old), claim_view(new))


def _addresses(claim: Claim) -> set[str]:
    return {device.address for device in claim.pci_devices}


_Pair = tuple[Claim | None, Expected]


def _pair(held: tuple[Claim, ...], expected: list[Expected]) -> tuple[list[_Pair], tuple[Claim, ...]]:
    """Pair each expected claim with the nearest held one: its role changes, and nothing is counted twice.

    `_may_become` says which pairs are allowed. The arriving claim is paired first.
    """
    free = list(held)
    pairs: list[_Pair] = []
    arriving = next((e.claim.migration_uuid for e in expected if e.arriving), None)
    for wanted in sorted(expected, key=lambda e: not e.arriving):
        best = min(
            (claim for claim in free if _may_become(claim, wanted, arriving)),
            key=lambda claim: _distance(claim, wanted),
            default=None,
        )
        if best is not None:
            free.remove(best)
        pairs.append((best, wanted))
    return pairs, tuple(free)


def _may_become(claim: Claim, wanted: Expected, arriving: str | None) -> bool:
    """Tell whether a held claim may be paired with an expected one. The arriving one may get a claim of its
    migration or its role, another one any claim but those of that migration.
    """
    if wanted.arriving:
        return claim.migration_uuid == arriving or claim.role is wanted.claim.role
    return arriving is None or claim.migration_uuid != arriving


def _distance(claim: Claim, wanted: Expected) -> tuple[bool, bool, bool]:
    label_differs = wanted.arriving and claim.migration_uuid != wanted.claim.migration_uuid
    return (
        label_differs,
        claim.amounts != wanted.claim.amounts,
        claim.role is not wanted.claim.role,
    )
