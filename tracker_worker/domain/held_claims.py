# SPDX-License-Identifier: Apache-2.0
"""The claims that a node holds."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.flavors import Amounts, Flavor, amounts_of
from tracker_worker.domain.numa.topology import request_of
from tracker_worker.domain.objects import GuestTopology, Instance, PciRequest
from tracker_worker.domain.pci.pools import HeldDevice


class Role(StrEnum):
    """The purpose of a claim for its instance on the node."""

    INSTANCE = "instance"
    INCOMING = "incoming"
    OUTGOING = "outgoing"


class Claim(Struct, frozen=True):
    """Resources that one instance holds on one node in one role.

    `migration_uuid` is the migration that brought, or is bringing, the instance here; a move away does not
    change it. The flavor has numbers only. `numa_request` and `pci_requests` are the request, `numa_topology`
    and `pci_devices` what was assigned for it. `assigned`: this worker chose the topology and audits keep it,
    otherwise they replace it with the reported one.
    """

    instance_uuid: str
    role: Role
    flavor: Flavor
    volume_backed: bool
    project_id: str
    vm_state: str
    migration_uuid: str | None = None
    os_type: str | None = None
    task_state: str | None = None
    numa_request: GuestTopology | None = None
    numa_topology: GuestTopology | None = None
    pci_requests: tuple[PciRequest, ...] = ()
    pci_devices: tuple[HeldDevice, ...] = ()
    assigned: bool = False

    @property
    def amounts(self) -> Amounts:
        """The amounts that the claim adds to the usage."""
        return amounts_of(self.flavor, self.volume_backed)

    @property
    def devices_only(self) -> bool:
        """Whether the claim has devices only, for a move that has not claimed yet."""
        return self.role is Role.INCOMING and self.migration_uuid is None and self.amounts == Amounts()


def claim_for(
    instance: Instance, role: Role, migration_uuid: str | None, flavor: Flavor | None = None
) -> Claim:
    """Return the claim of an instance, sized by `flavor` (default its own), without topology and devices."""
    size = flavor or instance.flavor
    return Claim(
        instance_uuid=instance.uuid,
        role=role,
        flavor=Flavor(size.vcpus, size.memory_mb, size.root_gb, size.ephemeral_gb, size.swap_mb),
        volume_backed=instance.volume_backed,
        project_id=instance.project_id,
        vm_state=instance.vm_state,
        migration_uuid=migration_uuid,
        os_type=instance.os_type,
        task_state=instance.task_state,
    )


def adopted(
    instance: Instance,
    role: Role,
    migration_uuid: str | None,
    flavor: Flavor | None = None,
) -> Claim:
    """Return the claim of an instance that is here already, with its reported topology and devices."""
    claim = claim_for(instance, role, migration_uuid, flavor)
    return with_reported(claim, instance.numa_topology, instance.pci_devices)


def with_reported(claim: Claim, topology: GuestTopology | None, addresses: Iterable[str] | None) -> Claim:
    """Return a claim with a topology and devices that this worker did not choose."""
    return replace(
        claim,
        numa_request=request_of(topology),
        numa_topology=topology,
        pci_devices=tuple(HeldDevice(address, tentative=True) for address in addresses or ()),
    )
