# SPDX-License-Identifier: Apache-2.0
"""The claims that a node holds, and what Nova's statistics count of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from sys import intern

from immutables import Map, MapMutation
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


class _Share(Struct, frozen=True):
    """What one claim adds to Counts, and its keys, each of which it counts once."""

    instances: int = 0
    in_task: int = 0
    io_workload: int = 0
    keys: tuple[str, ...] = ()


_NO_SHARE = _Share()


def _share_of(claim: Claim | None) -> _Share:
    if claim is None or claim.role is not Role.INSTANCE:
        return _NO_SHARE
    return _share(claim.vm_state, claim.task_state, claim.os_type, claim.project_id)


@lru_cache(4096)
def _share(vm_state: str, task_state: str | None, os_type: str | None, project_id: str) -> _Share:
    """Claims of one project in the same state have the same share: most are in few states."""
    return _Share(
        instances=1,
        in_task=int(task_state is not None),
        io_workload=(vm_state == "building") + (task_state in _IO_TASKS),
        keys=(
            f"num_vm_{vm_state}",
            f"num_task_{task_state}",
            f"num_os_type_{os_type}",
            f"num_proj_{project_id}",
        ),
    )


def count_claims(claims: Iterable[Claim]) -> Counts:
    """Return the counts of claims; linear in them, whereas HeldClaims keeps them while claims change."""
    shares = list(map(_share_of, claims))
    return Counts(
        instances=sum(share.instances for share in shares),
        in_task=sum(share.in_task for share in shares),
        io_workload=sum(share.io_workload for share in shares),
        by_key=Map(Counter(key for share in shares for key in share.keys)),
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
        return _in_role(self._by_instance.get(instance_uuid, ()), role)

    def put(self, claim: Claim) -> "HeldClaims":
        """Return the claims with this one, in the place of that of its instance and role."""
        held = self._by_instance.get(claim.instance_uuid, ())
        old = _in_role(held, claim.role)
        kept = tuple(other for other in held if other is not old)
        by_instance = self._by_instance.set(claim.instance_uuid, (*kept, claim))
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


def _in_role(claims: tuple[Claim, ...], role: Role) -> Claim | None:
    for claim in claims:
        if claim.role is role:
            return claim
    return None


def _exchanged(counts: Counts, old: Claim | None, new: Claim | None) -> Counts:
    """Return counts with one claim in the place of another; only the keys that differ are counted anew."""
    before, after = _share_of(old), _share_of(new)
    if before == after:
        return counts
    by_key = counts.by_key.mutate()
    for key in before.keys:
        if key not in after.keys:
            _add(by_key, key, -1)
    for key in after.keys:
        if key not in before.keys:
            _add(by_key, key, 1)
    return Counts(
        instances=counts.instances + after.instances - before.instances,
        in_task=counts.in_task + after.in_task - before.in_task,
        io_workload=counts.io_workload + after.io_workload - before.io_workload,
        by_key=by_key.finish(),
    )


def _add(by_key: MapMutation[str, int], key: str, by: int) -> None:
    number = by_key.get(key, 0) + by
    if number:
        by_key[key] = number
    else:
        del by_key[key]
