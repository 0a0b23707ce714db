# SPDX-License-Identifier: Apache-2.0
"""The commands of version 1.0: one Struct a method, its fields the method's arguments.

Commands are immutable and valid: decoding refuses unknown and missing fields, wrong types and values out of
range, at any depth, so that rules need no checks of their own. The comments `#: meaning [unit]` are the
source of doc/source/user/commands.rst.
"""

from typing import Annotated, get_args

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from tracker_worker.domain.errors import InvalidValue
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
    """Arguments of every command."""

    node: HostName  #: the hypervisor's hostname; determines the partition
    #: unique id of the event; a repeated event changes nothing and gets the first reply
    event_id: EventId | None = None
    origin: Origin | None = None  #: the client process that sent the command, and its counter


class UpdateAvailableResource(Command, frozen=True):
    """Report the hypervisor's view of a node, which creates or updates the node. With `instances` it is an
    audit: the claims are compared with the instances and migrations, and corrected.
    """

    resources: Resources  #: the hypervisor's report
    #: all instances on the node, as the sender's database has them; makes the report an audit
    instances: Annotated[list[Instance], Meta(max_length=100_000)] | None = None
    #: current migrations from or to the node; read by an audit alone
    migrations: Annotated[list[Migration], Meta(max_length=100_000)] | None = None
    #: the lists include the sender's events up to this count; instances with later ones are skipped [count]
    as_of: Sequence | None = None
    #: the compute service has just started: failed_builds becomes 0, conflicts end, a broken node is rebuilt
    startup: bool = False
    #: whether the sender's compute service is disabled; absent: unchanged, enabled on a new host
    disabled: bool | None = None

    def __post_init__(self) -> None:
        """Refuse `as_of` without `origin`, whose events it counts, and a provider with the node's name."""
        if self.as_of is not None and self.origin is None:
            raise ValueError("Object missing required field `origin`")
        for number, provider in enumerate(self.resources.providers or ()):
            if provider.name == self.node:
                field = f"resources.providers[{number}].name"
                raise InvalidValue(field, "it is the name of the node, whose own provider is not listed")


class RepeatedAudit(Command, frozen=True):
    """An audit that repeats the node's last one, which changed nothing, and nothing has changed since.

    Not a method: it takes the place of an `update_available_resource` whose arguments need no decoding.
    """

    as_of: Sequence | None = None


class InstanceClaim(Command, frozen=True):
    """Claim resources for a boot or an unshelve."""

    instance: Instance  #: the instance, whose flavor is claimed
    #: ceilings from the scheduler; a resource without one is tested as `[tracker] capacity_check` says
    limits: Limits | None = None
    #: another tracker has granted the claim: nothing is tested, pinning and devices are recorded as sent
    decided: bool = False


class MoveClaim(Command, frozen=True, kw_only=True):
    """Arguments that the claims of moves to this node share."""

    instance: Instance  #: the instance as it is before the move
    migration: Migration  #: the migration; the claim records its uuid
    #: ceilings from the scheduler; a resource without one is tested as `[tracker] capacity_check` says
    limits: Limits | None = None
    #: properties of the (new) image, without `image_`; absent: the instance's
    image_properties: dict[Label, Text] | None = None
    #: all PCI requests of the move; absent: those of the instance's ports and the flavor's alias
    pci_requests: PciRequests | None = None
    #: another tracker has granted the claim: nothing is tested, pinning and devices are recorded as sent
    decided: bool = False

    def __post_init__(self) -> None:
        """Drop the image properties that no rule reads."""
        if self.image_properties:
            force_setattr(self, "image_properties", read_keys(self.image_properties))


class ResizeClaim(MoveClaim, frozen=True, kw_only=True):
    """Claim resources for a resize or a cold migration to this node."""

    flavor: Flavor  #: the flavor after the move; equal to the instance's for a cold migration


class LiveMigrationClaim(MoveClaim, frozen=True):
    """Claim resources for a live migration to this node. PCI requests are only tested: `claim_pci_devices`
    claims the devices.
    """


class RebuildClaim(MoveClaim, frozen=True):
    """Claim resources for an evacuation to this node."""


class AbortInstanceClaim(Command, frozen=True):
    """The boot has failed: release the instance's claim."""

    instance_uuid: Uuid  #: the instance whose claim is released


class DropMoveClaim(Command, frozen=True):
    """The move to this node was aborted or rolled back: release its claim."""

    instance_uuid: Uuid  #: the instance whose incoming claim is released
    migration_uuid: Uuid | None = None  #: release only a claim of this migration; absent: of any


class StartMove(Command, frozen=True):
    """Source: the instance was handed over to the destination; its claim becomes `outgoing`, for a revert."""

    instance_uuid: Uuid  #: the instance that moves away
    migration_uuid: Uuid  #: the migration that moves it


class FinishMove(Command, frozen=True):
    """Destination: the instance has arrived; its claim becomes `instance`."""

    instance: Instance  #: the instance after the move: its states, and its size if the move has no claim
    migration_uuid: Uuid | None = None  #: the migration that has ended; absent: none is recorded


class DropMoveClaimAtSource(Command, frozen=True):
    """Source: the move was confirmed, or a live migration or evacuation finished: release the old claim."""

    instance_uuid: Uuid  #: the instance that has left
    migration_uuid: Uuid  #: the migration that was confirmed


class DropMoveClaimAtDest(Command, frozen=True):
    """Destination: the move was reverted: release its claim."""

    instance_uuid: Uuid  #: the instance that went back
    migration_uuid: Uuid  #: the migration that was reverted


class FinishRevertMove(Command, frozen=True):
    """Source: the instance is back after a revert; its claim becomes `instance` again."""

    instance: Instance  #: the instance after the revert: its states, and its size if it has no claim here
    migration_uuid: Uuid  #: the migration that was reverted


class UpdateUsage(Command, frozen=True):
    """Record new states. An instance that is deleted is released. One that is shelved and offloaded is
    released too, unless its task_state is `spawning`: it is being unshelved.
    """

    instance: Instance  #: the instance with its new states


class ClaimPciDevices(Command, frozen=True):
    """Claim devices for an attachment or a live migration. They are `claimed` until they are allocated.

    Requests for no device (an empty list, or counts of 0) are granted if the instance has an `instance` or
    `incoming` claim on the node, and refused if it has none.
    """

    instance_uuid: Uuid  #: the instance that gets the devices
    pci_requests: PciRequests  #: the devices that are requested
    #: host cells of the guest, for the requests' numa_policy; absent: those of its claim
    numa_topology: GuestTopology | None = None
    #: PCI addresses that another tracker has taken, in the order of the requests: nothing is tested, they are
    #: recorded as sent, in place of those that the instance had for the same requests
    pci_devices: PciAddresses | None = None


class AllocatePciDevices(Command, frozen=True):
    """Record that claimed devices are in use."""

    instance_uuid: Uuid  #: the instance that uses the devices
    #: PCI addresses of the devices; absent: all that the instance has on the node
    addresses: PciAddresses | None = None


class UnclaimPciDevices(Command, frozen=True):
    """Release devices of an instance."""

    instance_uuid: Uuid  #: the instance whose devices are released
    #: PCI addresses of the devices; absent: all that the instance has on the node
    addresses: PciAddresses | None = None


class BuildFailed(Command, frozen=True):
    """Count one more failed build in a row (`failed_builds` in `stats`)."""


class BuildSucceeded(Command, frozen=True):
    """Set the count of failed builds in a row to 0."""


class SetServiceStatus(Command, frozen=True):
    """Record that the compute service was enabled or disabled."""

    disabled: bool  #: whether the compute service is disabled


class RemoveNode(Command, frozen=True):
    """Stop tracking the node. Refused while it has claims, unless `force`."""

    host: HostName | None = None  #: remove the node only if it belongs to this host; absent: to any
    force: bool = False  #: remove the node although it has claims


class GetNode(Command, frozen=True):
    """Return the node view. A read: it changes nothing and leaves no receipt."""


ClaimCommand = InstanceClaim | ResizeClaim | LiveMigrationClaim | RebuildClaim | ClaimPciDevices
"""Commands that are refused if they do not fit."""
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
"""Commands that change the claims of one instance. They are never refused."""
DeviceCommand = AllocatePciDevices | UnclaimPciDevices
"""Commands that change the devices of an instance's claims. They are never refused."""
NodeCommand = BuildFailed | BuildSucceeded | SetServiceStatus | RemoveNode
LedgerCommand = UpdateAvailableResource | ClaimCommand | InstanceCommand | DeviceCommand | NodeCommand
"""Commands that `decide` takes: all but reads."""
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
