# SPDX-License-Identifier: Apache-2.0
"""The claims that a node holds, and what Nova's statistics count of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from sys import intern

from immutables import Map
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


class Claim(Struct, frozen=True, gc=False):
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


@lru_cache(1024)
def numbers_of(vcpus: int, memory_mb: int, root_gb: int, ephemeral_gb: int, swap_mb: int) -> Flavor:
    """Return the flavor with these numbers. A cloud has few: the claims of a flavor share it."""
    return Flavor(vcpus, memory_mb, root_gb, ephemeral_gb, swap_mb)


def claim_for(
    instance: Instance, role: Role, migration_uuid: str | None, flavor: Flavor | None = None
) -> Claim:
    """Return the claim of an instance, sized by `flavor` (default its own), without topology and devices."""
    size = flavor or instance.flavor
    return Claim(
        instance_uuid=instance.uuid,
        role=role,
        flavor=numbers_of(size.vcpus, size.memory_mb, size.root_gb, size.ephemeral_gb, size.swap_mb),
        volume_backed=instance.volume_backed,
        project_id=intern(instance.project_id),
        vm_state=intern(instance.vm_state),
        migration_uuid=migration_uuid,
        os_type=instance.os_type and intern(instance.os_type),
        task_state=instance.task_state and intern(instance.task_state),
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


_IO_TASKS = frozenset(
    (
        "rebuilding",
        "resize_prep",
        "resize_migrating",
        "image_snapshot",
        "image_backup",
        "rescuing",
        "unshelving",
    )
)


class Counts(Struct, frozen=True):
    """What Nova's statistics count of claims of role `instance` (nova.compute.stats.Stats).

    `instances` is their number, `in_task` of those with a task in progress, `io_workload` Nova's figure, and
    `by_key` the number for each key such as `num_vm_active`.
    """

    instances: int = 0
    in_task: int = 0
    io_workload: int = 0
    by_key: Map[str, int] = Map()


def count_claims(claims: Iterable[Claim]) -> Counts:
    """Return the counts of claims; linear in them, whereas HeldClaims keeps them while claims change."""
    counted = [claim for claim in claims if claim.role is Role.INSTANCE]
    return Counts(
        instances=len(counted),
        in_task=sum(claim.task_state is not None for claim in counted),
        io_workload=sum(map(_io_workload, counted)),
        by_key=Map(Counter(chain.from_iterable(map(_keys, counted)))),
    )


_NO_CLAIMS: Map[str, tuple[Claim, ...]] = Map()
_NO_COUNTS = Counts()
_LEAST_UNTIL_PROOF = 16


class HeldClaims(Mapping[str, tuple[Claim, ...]]):
    """The claims of a node by instance, and their counts. Immutable, in no order.

    `put` and `drop` return what is held after a change. Their cost does not depend on how much is held.
    `until_proof` is the number of changes until sum and counts are to be proved from all claims again: as
    many as there were instances at the last proof, so that a change's share of the proofs does not grow.
    """

    __slots__ = ("_by_instance", "counts", "until_proof")

    def __init__(
        self,
        by_instance: Map[str, tuple[Claim, ...]] = _NO_CLAIMS,
        counts: Counts = _NO_COUNTS,
        until_proof: int = _LEAST_UNTIL_PROOF,
    ) -> None:
        self._by_instance = by_instance
        self.counts = counts
        self.until_proof = until_proof

    @classmethod
    def of(cls, claims: Iterable[Claim]) -> "HeldClaims":
        """Return these claims; linear in them."""
        held: dict[str, tuple[Claim, ...]] = {}
        for claim in claims:
            held[claim.instance_uuid] = (*held.get(claim.instance_uuid, ()), claim)
        return cls(Map(held), count_claims(chain.from_iterable(held.values()))).proved()

    def __getitem__(self, instance_uuid: str) -> tuple[Claim, ...]:
        return self._by_instance[instance_uuid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_instance)

    def __len__(self) -> int:
        return len(self._by_instance)

    def find(self, instance_uuid: str, role: Role) -> Claim | None:
        """Return the claim of an instance in a role, if it has one."""
        for claim in self._by_instance.get(instance_uuid, ()):
            if claim.role is role:
                return claim
        return None

    def put(self, claim: Claim) -> "HeldClaims":
        """Return the claims with this one, in the place of that of its instance and role."""
        held = self._by_instance.get(claim.instance_uuid, ())
        kept = tuple(other for other in held if other.role is not claim.role)
        by_instance = self._by_instance.set(claim.instance_uuid, (*kept, claim))
        old = self.find(claim.instance_uuid, claim.role)
        return HeldClaims(by_instance, _exchanged(self.counts, old, claim), self.until_proof - 1)

    def drop(self, instance_uuid: str, role: Role) -> "HeldClaims":
        """Return the claims without that of an instance in a role, which may be missing."""
        old = self.find(instance_uuid, role)
        if old is None:
            return self
        kept = tuple(other for other in self._by_instance[instance_uuid] if other is not old)
        by_instance = self._by_instance.delete(instance_uuid)
        if kept:
            by_instance = by_instance.set(instance_uuid, kept)
        return HeldClaims(by_instance, _exchanged(self.counts, old, None), self.until_proof - 1)

    def proved(self) -> "HeldClaims":
        """Return the same claims after a proof of their sum and counts."""
        return HeldClaims(self._by_instance, self.counts, max(len(self), _LEAST_UNTIL_PROOF))


def _exchanged(counts: Counts, old: Claim | None, new: Claim | None) -> Counts:
    if old is not None and new is not None and _keys(old) == _keys(new):
        return counts
    if old is not None:
        counts = _counted(counts, old, -1)
    return counts if new is None else _counted(counts, new, 1)


def _counted(counts: Counts, claim: Claim, by: int) -> Counts:
    """Return counts with a claim added (`by` 1) or taken out (-1)."""
    if claim.role is not Role.INSTANCE:
        return counts
    by_key = counts.by_key.mutate()
    for key in _keys(claim):
        number = by_key.get(key, 0) + by
        if number:
            by_key[key] = number
        else:
            del by_key[key]
    return Counts(
        instances=counts.instances + by,
        in_task=counts.in_task + by * (claim.task_state is not None),
        io_workload=counts.io_workload + by * _io_workload(claim),
        by_key=by_key.finish(),
    )


def _io_workload(claim: Claim) -> int:
    return (claim.vm_state == "building") + (claim.task_state in _IO_TASKS)


def _keys(claim: Claim) -> tuple[str, ...]:
    if claim.role is not Role.INSTANCE:
        return ()
    return (
        f"num_vm_{claim.vm_state}",
        f"num_task_{claim.task_state}",
        f"num_os_type_{claim.os_type}",
        f"num_proj_{claim.project_id}",
    )
