# SPDX-License-Identifier: Apache-2.0
"""What Nova allocates for a claim, and how an allocation is compared with that."""

import pytest
from msgspec.structs import replace

from tests.builders import a_claim, a_flavor
from tracker_worker.domain.fields import CpuPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.objects import GuestCell, GuestTopology
from tracker_worker.placement.sizes import CLASSES, allocation_of, differing

WHOLE = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20}


def test_flavor_is_allocated_as_it_is() -> None:
    assert allocation_of(a_claim()) == WHOLE


def test_swap_is_rounded_up_and_the_root_disk_of_a_volume_counts_nothing() -> None:
    flavor = a_flavor(root_gb=20, ephemeral_gb=3, swap_mb=1025)
    assert allocation_of(a_claim(flavor=flavor))["DISK_GB"] == 25
    assert allocation_of(a_claim(flavor=flavor, volume_backed=True))["DISK_GB"] == 5
    assert "DISK_GB" not in allocation_of(a_claim(volume_backed=True))


@pytest.mark.parametrize(
    ("policy", "emulator", "pinned", "expected"),
    [
        (CpuPolicy.DEDICATED, None, [0, 1, 2, 3], {"PCPU": 4}),
        (CpuPolicy.DEDICATED, EmulatorThreadsPolicy.ISOLATE, [0, 1, 2, 3], {"PCPU": 5}),
        (CpuPolicy.DEDICATED, EmulatorThreadsPolicy.SHARE, [0, 1, 2, 3], {"PCPU": 4}),
        (CpuPolicy.MIXED, None, [3], {"VCPU": 3, "PCPU": 1}),
        (CpuPolicy.MIXED, EmulatorThreadsPolicy.ISOLATE, [2, 3], {"VCPU": 2, "PCPU": 3}),
        (CpuPolicy.SHARED, EmulatorThreadsPolicy.ISOLATE, [], {"VCPU": 4}),
        (None, None, [], {"VCPU": 4}),
    ],
)
def test_pinned_cpus_are_pcpus(
    policy: CpuPolicy | None,
    emulator: EmulatorThreadsPolicy | None,
    pinned: list[int],
    expected: dict[str, int],
) -> None:
    shared = [cpu for cpu in range(4) if cpu not in pinned]
    cell = GuestCell(id=0, cpuset=shared, pcpuset=pinned, memory=0, cpu_policy=policy)
    topology = GuestTopology([cell], emulator)
    claim = replace(a_claim(flavor=a_flavor(4, 0, 0)), numa_request=topology)
    assert allocation_of(claim) == expected
    assert allocation_of(replace(claim, numa_request=None, numa_topology=topology)) == expected


def test_amounts_of_all_compared_classes_are_compared() -> None:
    assert differing(WHOLE, WHOLE, CLASSES) == []
    assert differing(WHOLE, {"PCPU": 2, "MEMORY_MB": 2048}, CLASSES) == ["VCPU", "PCPU", "DISK_GB"]
    assert differing(WHOLE, {"VCPU": 2, "MEMORY_MB": 2048}, CLASSES[:3]) == []


def test_bare_metal_flavor_sets_the_other_classes_to_zero() -> None:
    assert differing(WHOLE, {"CUSTOM_BAREMETAL": 1}, CLASSES) == []
    assert differing(WHOLE, {**WHOLE, "CUSTOM_LICENCE": 1, "VCPU": 1}, CLASSES) == ["VCPU"]
