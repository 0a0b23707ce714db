# SPDX-License-Identifier: Apache-2.0
"""The commands of version 1.0: one Struct a method, its fields the method's arguments.

Instances are immutable and complete: decoding refuses what is unknown, missing, of the wrong type or out of
range, at any depth, so that no rule has to look twice.
"""

from typing import Annotated, get_args

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from tracker_worker.domain.extra_specs import read_keys
from tracker_worker.domain.fields import EventId, HostName, Label, Sequence, Text, Uuid
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.objects import (
    GuestTopology,
    Instance,
    Limits,
    Migration,
    Origin,
    PciAddresses,
    PciRequests,
    Resources,
)

VERSION = "1.0"


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every command has: the hypervisor's hostname, an id for de-duplication, where it was cast."""

    node: HostName
    event_id: EventId | None = None
    origin: Origin | None = None


class UpdateAvailableResource(Command, frozen=True):
    """The hypervisor's view; creates or refreshes the node; with `instances`, an audit.

    `disabled` is the sender's compute service; without it the node keeps what it had of the same host.
    """

    resources: Resources
    instances: Annotated[list[Instance], Meta(max_length=100_000)] | None = None
    migrations: Annotated[list[Migration], Meta(max_length=100_000)] | None = None
    as_of: Sequence | None = None
    startup: bool = False
    disabled: bool | None = None

    def __post_init__(self) -> None:
        """Refuse `as_of` without `origin`: it counts the events of that source."""
        if self.as_of is not None and self.origin is None:
            raise ValueError("Object missing required field `origin`")


class InstanceClaim(Command, frozen=True):
    """A boot or unshelve wants room."""

    instance: Instance
    limits: Limits | None = None
    decided: bool = False


class MoveClaim(Command, frozen=True, kw_only=True):
    """What the claims of a move to this node share."""

    instance: Instance
    migration: Migration
    limits: Limits | None = None
    image_properties: dict[Label, Text] | None = None
    pci_requests: PciRequests | None = None
    decided: bool = False

    def __post_init__(self) -> None:
        """Drop the image properties that no rule reads."""
        if self.image_properties:
            force_setattr(self, "image_properties", read_keys(self.image_properties))


class ResizeClaim(MoveClaim, frozen=True, kw_only=True):
    """A resize, or a cold migration (same flavor), to this node wants room."""

    flavor: Flavor


class LiveMigrationClaim(MoveClaim, frozen=True):
    """A live migration to this node wants room."""


class RebuildClaim(MoveClaim, frozen=True):
    """An evacuation to this node wants room."""


class AbortInstanceClaim(Command, frozen=True):
    """The boot failed."""

    instance_uuid: Uuid


class DropMoveClaim(Command, frozen=True):
    """The move to here was aborted or rolled back."""

    instance_uuid: Uuid
    migration_uuid: Uuid | None = None


class StartMove(Command, frozen=True):
    """Source: handed over, keep room for a revert."""

    instance_uuid: Uuid
    migration_uuid: Uuid


class FinishMove(Command, frozen=True):
    """Destination: the instance has landed."""

    instance: Instance
    migration_uuid: Uuid | None = None


class DropMoveClaimAtSource(Command, frozen=True):
    """Source: confirmed; or a live migration or evacuation has left."""

    instance_uuid: Uuid
    migration_uuid: Uuid


class DropMoveClaimAtDest(Command, frozen=True):
    """Destination: reverted."""

    instance_uuid: Uuid
    migration_uuid: Uuid


class FinishRevertMove(Command, frozen=True):
    """Source: the instance is back after a revert."""

    instance: Instance
    migration_uuid: Uuid


class UpdateUsage(Command, frozen=True):
    """A new vm_state or task_state; in a removable state, released."""

    instance: Instance


class ClaimPciDevices(Command, frozen=True):
    """An attachment or a live migration wants devices; they are claimed until they are allocated."""

    instance_uuid: Uuid
    pci_requests: PciRequests
    numa_topology: GuestTopology | None = None


class AllocatePciDevices(Command, frozen=True):
    """Claimed devices are in use; without addresses all that the instance has here."""

    instance_uuid: Uuid
    addresses: PciAddresses | None = None


class UnclaimPciDevices(Command, frozen=True):
    """Devices are free again; without addresses all that the instance has here."""

    instance_uuid: Uuid
    addresses: PciAddresses | None = None


class BuildFailed(Command, frozen=True):
    """One more failed build in a row."""


class BuildSucceeded(Command, frozen=True):
    """No failed builds in a row."""


class SetServiceStatus(Command, frozen=True):
    """The compute service was enabled or disabled."""

    disabled: bool


class RemoveNode(Command, frozen=True):
    """The node is no longer tracked."""

    host: HostName | None = None
    force: bool = False


class GetNode(Command, frozen=True):
    """Ask for the node view; leaves no receipt."""


ClaimCommand = InstanceClaim | ResizeClaim | LiveMigrationClaim | RebuildClaim | ClaimPciDevices
"""May be refused for want of room."""
InstanceCommand = (
    UpdateUsage
    | AbortInstanceClaim
    | DropMoveClaim
    | StartMove
    | FinishMove
    | DropMoveClaimAtSource
    | DropMoveClaimAtDest
    | FinishRevertMove
)
"""Change the claims of one instance, and are never refused."""
DeviceCommand = AllocatePciDevices | UnclaimPciDevices
"""Change the devices of an instance's claims, and are never refused."""
NodeCommand = BuildFailed | BuildSucceeded | SetServiceStatus | RemoveNode
LedgerCommand = UpdateAvailableResource | ClaimCommand | InstanceCommand | DeviceCommand | NodeCommand
"""What is decided: every command but a question."""
AnyCommand = LedgerCommand | GetNode

METHODS: dict[str, type[AnyCommand]] = {
    "update_available_resource": UpdateAvailableResource,
    "instance_claim": InstanceClaim,
    "resize_claim": ResizeClaim,
    "live_migration_claim": LiveMigrationClaim,
    "rebuild_claim": RebuildClaim,
    "abort_instance_claim": AbortInstanceClaim,
    "drop_move_claim": DropMoveClaim,
    "start_move": StartMove,
    "finish_move": FinishMove,
    "drop_move_claim_at_source": DropMoveClaimAtSource,
    "drop_move_claim_at_dest": DropMoveClaimAtDest,
    "finish_revert_move": FinishRevertMove,
    "update_usage": UpdateUsage,
    "claim_pci_devices": ClaimPciDevices,
    "allocate_pci_devices": AllocatePciDevices,
    "unclaim_pci_devices": UnclaimPciDevices,
    "build_failed": BuildFailed,
    "build_succeeded": BuildSucceeded,
    "set_service_status": SetServiceStatus,
    "remove_node": RemoveNode,
    "get_node": GetNode,
}

METHOD_OF: dict[type[AnyCommand], str] = {command: method for method, command in METHODS.items()}
CLAIM_METHODS = frozenset(METHOD_OF[claim] for claim in get_args(ClaimCommand))


def instance_uuid_of(command: AnyCommand) -> str | None:
    """Return the uuid of the instance that a command is about, None when it is about the node."""
    match command:
        case (
            InstanceClaim(instance=instance)
            | MoveClaim(instance=instance)
            | FinishMove(instance=instance)
            | FinishRevertMove(instance=instance)
            | UpdateUsage(instance=instance)
        ):
            return instance.uuid
        case (
            AbortInstanceClaim(instance_uuid=uuid)
            | DropMoveClaim(instance_uuid=uuid)
            | StartMove(instance_uuid=uuid)
            | DropMoveClaimAtSource(instance_uuid=uuid)
            | DropMoveClaimAtDest(instance_uuid=uuid)
            | ClaimPciDevices(instance_uuid=uuid)
            | AllocatePciDevices(instance_uuid=uuid)
            | UnclaimPciDevices(instance_uuid=uuid)
        ):
            return uuid
        case _:
            return None
