# SPDX-License-Identifier: Apache-2.0
"""decide: a pure, total function from a node and a command to a decision. Nothing is mutated."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal, assert_never

from msgspec.structs import replace

from tracker_worker.domain import attachments, moves
from tracker_worker.domain.audit import Correction, Facts, audit, removable
from tracker_worker.domain.claims import check_claim
from tracker_worker.domain.commands import (
    METHOD_OF,
    AbortInstanceClaim,
    AllocatePciDevices,
    BuildFailed,
    BuildSucceeded,
    ClaimCommand,
    ClaimPciDevices,
    DeviceCommand,
    DropMoveClaim,
    DropMoveClaimAtDest,
    DropMoveClaimAtSource,
    FinishMove,
    FinishRevertMove,
    InstanceClaim,
    InstanceCommand,
    LedgerCommand,
    RemoveNode,
    RepeatedAudit,
    SetServiceStatus,
    StartMove,
    UnclaimPciDevices,
    UpdateAvailableResource,
    UpdateUsage,
    instance_uuid_of,
)
from tracker_worker.domain.decision import (
    Audited,
    ClaimRefused,
    Decision,
    Effect,
    NodeCreated,
    NodeDeleted,
    Outcome,
    ReportRefused,
    ReserveExceeded,
)
from tracker_worker.domain.errors import Refusal
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import (
    BuildsCounted,
    ClaimPut,
    ConflictNoted,
    ConflictsResolved,
    LedgerChange,
    Mark,
    Node,
    NodeRemoved,
    Reported,
    ServiceStatusSet,
)
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.origins import (
    MAX_ORIGINS,
    AuditSeen,
    OriginEvicted,
    OriginRecorded,
)
from tracker_worker.domain.report import Owner, conflict_of, excess_reserves, report_change
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.transitions import Action
from tracker_worker.domain.usage import with_known_devices
from tracker_worker.domain.views import claim_view

STALE_AUDIT = "stale_audit"
"""Reason of an audit that is not newer than one of the same source that was processed before."""
AS_OF_TOO_OLD = "as_of_too_old"
"""Reason of an audit that corrects nothing: a last origin above its `as_of` was evicted."""


def decide(
    node: Node,
    command: LedgerCommand | RepeatedAudit,
    settings: TrackerSettings,
    uuid_owners: Mapping[str, Owner],
) -> Decision:
    """Decide a command on a node. `uuid_owners`: the tracked nodes that have reported uuids, by uuid."""
    if isinstance(command, RepeatedAudit):
        return _repeated_audit(node, command)
    decision = _decide(node, command, settings, uuid_owners)
    marks = decision.marks
    uuid = instance_uuid_of(command)
    if uuid is not None and command.origin is not None:
        marks = (*marks, *_touch(node, uuid, command.origin))
    return replace(decision, changes=_with_known_devices(node, decision.changes), marks=marks)


def _touch(node: Node, uuid: str, origin: Origin) -> tuple[Mark, ...]:
    """Return the marks that record the last origin of an instance and evict the oldest above MAX_ORIGINS."""
    recorded = OriginRecorded(uuid, origin)
    above = 0 if uuid in node.last_origins else len(node.last_origins) - MAX_ORIGINS + 1
    if above <= 0:
        return (recorded,)
    return (*map(OriginEvicted, islice(node.last_origins, above)), recorded)


def _with_known_devices(node: Node, changes: tuple[LedgerChange, ...]) -> tuple[LedgerChange, ...]:
    """Return changes whose claims store their devices as the newest report has them."""
    if not any(isinstance(change, ClaimPut) and change.claim.pci_devices for change in changes):
        return changes
    reports = [change.resources for change in changes if isinstance(change, Reported)]
    known = replace(node, resources=reports[-1]) if reports else node
    return tuple(
        ClaimPut(with_known_devices(known, change.claim)) if isinstance(change, ClaimPut) else change
        for change in changes
    )


def _decide(
    node: Node, command: LedgerCommand, settings: TrackerSettings, uuid_owners: Mapping[str, Owner]
) -> Decision:
    """Dispatch a command to its rule; mypy checks that each has one."""
    if isinstance(command, UpdateAvailableResource):
        return _report(node, command, settings, uuid_owners)
    if isinstance(command, ClaimCommand):
        return _claim(node, command, settings)
    if not node.tracked:
        return Decision(Outcome.IGNORED, reason=f"Node {node.name} is not tracked")
    if isinstance(command, InstanceCommand):
        return _applied(_instance_changes(node, command))
    if isinstance(command, DeviceCommand):
        return _applied(_device_changes(node, command))
    match command:
        case RemoveNode():
            return _remove(node, command)
        case BuildFailed():
            return _applied((BuildsCounted(node.failed_builds + 1),))
        case BuildSucceeded():
            return _applied((BuildsCounted(0),) if node.failed_builds else ())
        case SetServiceStatus(disabled=disabled):
            return _applied((ServiceStatusSet(disabled),) if disabled != node.disabled else ())
        case _:
            assert_never(command)


def _instance_changes(node: Node, command: InstanceCommand) -> moves.Changes:
    """Return the changes of the claims of one instance, by the table of transitions."""
    uuid = instance_uuid_of(command)
    assert uuid is not None, command
    action, given = _action_of(command)
    return moves.changes_of(moves.held_by(node, uuid), action, given)


def _action_of(command: InstanceCommand) -> tuple[Action, moves.Given]:
    match command:
        case UpdateUsage(instance=instance):
            action = Action.REMOVE if removable(instance) else Action.UPDATE_USAGE
            return action, moves.Given(None, instance)
        case AbortInstanceClaim():
            return Action.ABORT_INSTANCE_CLAIM, moves.Given()
        case DropMoveClaim(migration_uuid=None):
            return Action.DROP_ANY_MOVE_CLAIM, moves.Given()
        case FinishMove(instance=instance) | FinishRevertMove(instance=instance):
            return Action(METHOD_OF[type(command)]), moves.Given(command.migration_uuid, instance)
        case DropMoveClaim() | StartMove() | DropMoveClaimAtSource() | DropMoveClaimAtDest():
            return Action(METHOD_OF[type(command)]), moves.Given(command.migration_uuid)
        case _:
            assert_never(command)


def _device_changes(node: Node, command: DeviceCommand) -> moves.Changes:
    claims = node.claims.get(command.instance_uuid, ())
    match command:
        case AllocatePciDevices(addresses=addresses):
            return attachments.allocate(claims, addresses)
        case UnclaimPciDevices(addresses=addresses):
            return attachments.unclaim(claims, addresses)
        case _:
            assert_never(command)


def _applied(changes: tuple[LedgerChange, ...]) -> Decision:
    return Decision(Outcome.APPLIED if changes else Outcome.IGNORED, changes=changes)


def _claim(node: Node, command: ClaimCommand, settings: TrackerSettings) -> Decision:
    """Decide a claim. On a node that is not tracked it is refused instead of silently succeeding (source: bug
    82deb0ce4b).
    """
    if not node.tracked:
        return _refused(f"Node {node.name} is not tracked")
    if isinstance(command, ClaimPciDevices):
        action = Action.CLAIM_PCI_DEVICES
        result = attachments.check_devices(node, command)
    else:
        action = Action.INSTANCE_CLAIM if isinstance(command, InstanceClaim) else Action.MOVE_CLAIM
        result = check_claim(node, command, settings)
    if result.claim is None:
        return _refused(result.reason or "")
    claim = with_known_devices(node, result.claim)
    if claim.devices_only and not claim.pci_devices:
        action = Action.UNCLAIM_PCI_DEVICES  # Another tracker has taken none: no claim is left of it.
    changes = moves.changes_of(moves.held_by(node, claim.instance_uuid), action, moves.Given(claimed=claim))
    effects: tuple[Effect, ...] = ()
    if result.conflict and changes:
        effects = (_conflict(node.claim(claim.instance_uuid, claim.role), claim),)
    return Decision(Outcome.GRANTED, claim=claim, changes=changes, effects=effects)


def _conflict(held: Claim | None, claim: Claim) -> Audited:
    """Return the effect of a decided claim that takes a CPU or a device that is not free here."""
    old = claim_view(held) if held is not None else None
    action: Literal["added", "changed"] = "changed" if held is not None else "added"
    correction = Correction(action, claim.instance_uuid, "conflict", old, claim_view(claim))
    return Audited((correction,), 0)


def _refused(reason: str) -> Decision:
    return Decision(Outcome.REFUSED, reason=reason, refusal=Refusal.NO_ROOM, effects=(ClaimRefused(reason),))


def _remove(node: Node, command: RemoveNode) -> Decision:
    assert node.resources is not None
    uuid, host = node.resources.uuid, node.resources.host
    if command.host is not None and command.host != host:
        return Decision(Outcome.IGNORED, reason=f"Node {node.name} belongs to host {host}")
    if node.claims and not command.force:
        reason = f"Node {node.name} has claims of {len(node.claims)} instances; use force"
        return Decision(Outcome.REFUSED, reason=reason, refusal=Refusal.OTHER)
    return Decision(
        Outcome.APPLIED,
        changes=(NodeRemoved(),),
        marks=(ConflictsResolved(),),
        effects=(NodeDeleted(uuid, host),),
    )


def _report(
    node: Node,
    command: UpdateAvailableResource,
    settings: TrackerSettings,
    uuid_owners: Mapping[str, Owner],
) -> Decision:
    report = command.resources
    if command.instances is not None and _is_stale(node, command.origin):
        return Decision(Outcome.IGNORED, reason=STALE_AUDIT, recorded=False)
    if conflict := conflict_of(node, report, uuid_owners):
        known = conflict.uuid in node.conflicts
        return Decision(
            Outcome.REFUSED,
            reason=f"{Refusal.NODE_CONFLICT}: {conflict.message}",
            refusal=Refusal.NODE_CONFLICT,
            marks=() if known else (ConflictNoted(conflict.uuid),),
            effects=() if known else (ReportRefused(conflict.uuid, conflict.message),),
        )
    changes: list[LedgerChange] = []
    marks: list[Mark] = []
    effects: list[Effect] = []
    if node.conflicts and (command.startup or not node.tracked):
        marks.append(ConflictsResolved())
    if change := report_change(node, report, settings):
        changes.append(change)
        faults = excess_reserves(change.resources, change.reserve)
        if faults.keys() - excess_reserves(node.resources, node.reserve).keys():
            effects.append(ReserveExceeded(f"the reserve exceeds the node: {', '.join(faults.values())}"))
    if not node.tracked:
        effects.append(NodeCreated())
    if command.startup and node.failed_builds:
        changes.append(BuildsCounted(0))
    changes += _service_status(node, command)
    audited = _audit(node, command)
    changes += audited.changes
    recorded = bool(changes) or command.instances is None or command.origin is None
    return Decision(
        outcome=Outcome.APPLIED if changes else Outcome.IGNORED,
        reason=audited.reason,
        changes=tuple(changes),
        marks=(*marks, *audited.marks),
        effects=(*effects, *audited.effects),
        recorded=recorded,
    )


def _repeated_audit(node: Node, command: RepeatedAudit) -> Decision:
    if _is_stale(node, command.origin):
        return Decision(Outcome.IGNORED, reason=STALE_AUDIT, recorded=False)
    seen = () if command.origin is None else (AuditSeen(command.origin),)
    audited = node.resources is not None and node.resources.available
    reason = _too_old(node, command.origin, command.as_of) if audited else None
    return Decision(Outcome.IGNORED, reason=reason, marks=seen, recorded=False)


def _service_status(node: Node, command: UpdateAvailableResource) -> Iterator[ServiceStatusSet]:
    """Yield a change if the service status in the report differs from the node's.

    Without `disabled` the status stays, but a node that moves to another host counts as enabled there.
    """
    disabled = command.disabled
    if disabled is None and node.resources is not None and node.resources.host != command.resources.host:
        disabled = False
    if disabled is not None and disabled != node.disabled:
        yield ServiceStatusSet(disabled)


def _is_stale(node: Node, origin: Origin | None) -> bool:
    """Tell whether an audit of this origin or a newer one of its source was processed before. A broker may
    redeliver an audit, which would undo the changes since.
    """
    source = None if origin is None else node.sources.get(origin.source)
    return source is not None and origin is not None and origin.sequence <= source.audited


def _audit(node: Node, command: UpdateAvailableResource) -> Decision:
    """Return the changes of the audit in a report, if it has one. The caller sets the outcome of the report.

    If an origin above its `as_of` was evicted, the audit corrects nothing: the instances that it has to skip
    are no longer known.
    """
    seen: tuple[Mark, ...] = ()
    if command.instances is not None and command.origin is not None:
        seen = (AuditSeen(command.origin),)
    if command.instances is None or not command.resources.available:
        return Decision(Outcome.IGNORED, marks=seen)
    if too_old := _too_old(node, command.origin, command.as_of):
        return Decision(Outcome.IGNORED, reason=too_old, marks=seen)
    facts = Facts(command.instances, command.migrations or [], command.origin, command.as_of)
    found = audit(node, facts)
    missing = found.migrations_without_instance
    reason = f"migration_without_instance: {missing}" if missing else None
    effects = (Audited(found.corrections, missing),) if found.corrections else ()
    return Decision(
        Outcome.IGNORED, reason, changes=found.changes, marks=(*seen, *found.marks), effects=effects
    )


def _too_old(node: Node, origin: Origin | None, as_of: int | None) -> str | None:
    """Return the reason if an origin of the audit's source above its `as_of` was evicted."""
    source = None if as_of is None or origin is None else node.sources.get(origin.source)
    if source is None or as_of is None or source.evicted <= as_of:
        return None
    return f"{AS_OF_TOO_OLD}: event {source.evicted} of its source has touched an instance since"
