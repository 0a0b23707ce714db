# SPDX-License-Identifier: Apache-2.0
"""What Nova allocates in Placement for a claim: VCPU, PCPU, MEMORY_MB and DISK_GB. Pure.

Source: nova.scheduler.utils.ResourceRequest.from_request_spec and resources_from_flavor.
"""

from collections.abc import Collection, Mapping

from tracker_worker.domain.fields import CpuPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.flavors import MB_PER_GB
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.objects import GuestTopology

DISK = "DISK_GB"
CLASSES = ("VCPU", "PCPU", "MEMORY_MB", DISK)
"""The resource classes that a claim has amounts of."""
_CUSTOM = "CUSTOM_"


def allocation_of(claim: Claim) -> dict[str, int]:
    """Return the amounts that Nova allocates for a claim, without zeros.

    The ledger keeps no extra specs of the flavor: amounts that `resources:*` override are not known here.
    """
    flavor = claim.flavor
    vcpus, pcpus = _cpus(flavor.vcpus, claim.numa_request or claim.numa_topology)
    root_gb = 0 if claim.volume_backed else flavor.root_gb
    swap_gb = -(-flavor.swap_mb // MB_PER_GB)
    amounts = (vcpus, pcpus, flavor.memory_mb, root_gb + flavor.ephemeral_gb + swap_gb)
    return {name: amount for name, amount in zip(CLASSES, amounts, strict=True) if amount}


def differing(expected: Mapping[str, int], held: Mapping[str, int], compared: Collection[str]) -> list[str]:
    """Return those of the compared classes of which a consumer holds another amount than expected.

    A class of which nothing is held is left out if the consumer holds a custom class, as of a bare-metal
    flavor: its `resources:*` set the others to zero.
    """
    overridden = any(name.startswith(_CUSTOM) for name in held)
    return [
        name
        for name in CLASSES
        if name in compared
        and expected.get(name, 0) != held.get(name, 0)
        and not (overridden and name not in held)
    ]


def _cpus(vcpus: int, topology: GuestTopology | None) -> tuple[int, int]:
    """Return how many of an instance's CPUs are VCPU and how many PCPU."""
    policies = {cell.cpu_policy for cell in topology.cells} if topology else set()
    if topology is None or not policies & {CpuPolicy.DEDICATED, CpuPolicy.MIXED}:
        return vcpus, 0
    dedicated = vcpus
    if CpuPolicy.MIXED in policies:
        dedicated = sum(len(cell.pcpuset) for cell in topology.cells)
    emulator = topology.emulator_threads_policy == EmulatorThreadsPolicy.ISOLATE
    return vcpus - dedicated, dedicated + emulator
