# SPDX-License-Identifier: Apache-2.0
"""The NUMA topology that a flavor and an image ask for, and in which words they are refused.

Reasons are those of nova.exception and nova.virt.hardware (34.0).
"""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import convert, to_builtins
from msgspec.structs import force_setattr

from tests.builders import a_flavor
from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.fields import CpuPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.numa.constraints import constraints_of, pci_numa_policy_of
from tracker_worker.domain.objects import GuestCell, GuestTopology

Specs = Mapping[str, str]

DEDICATED = {"hw:cpu_policy": "dedicated"}
MIXED = {"hw:cpu_policy": "mixed"}
MASK = {"hw:cpu_dedicated_mask": "0-1"}
REALTIME = {"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "2-3"}
ISOLATE = {"hw:emulator_threads_policy": "isolate"}
TRAIT = "HW_CPU_HYPERTHREADING"
TWO_NODES = {"hw:numa_nodes": "2"}
CPUS = {"hw:numa_cpus.0": "0-2", "hw:numa_cpus.1": "3"}
MEMORY = {"hw:numa_mem.0": "3072", "hw:numa_mem.1": "1024"}
LISTED = TWO_NODES | CPUS | MEMORY


def of_an_image(specs: Specs) -> dict[str, str]:
    return {key.replace("hw:", "hw_", 1): value for key, value in specs.items()}


def flavor_with(specs: Specs, vcpus: int = 4, memory_mb: int = 4096) -> Flavor:
    flavor = a_flavor(vcpus, memory_mb)
    # Set, not given: decoding drops keys that the rules here are tested with.
    force_setattr(flavor, "extra_specs", dict(specs))
    return flavor


def asked(specs: Specs, image: Specs | None = None, **numbers: int) -> GuestTopology | None:
    return constraints_of(flavor_with(specs, **numbers), image or {})


def cells(specs: Specs, image: Specs | None = None, **numbers: int) -> list[GuestCell]:
    topology = asked(specs, image, **numbers)
    assert topology is not None
    return topology.cells


def the_cell(specs: Specs, image: Specs | None = None, **numbers: int) -> GuestCell:
    (cell,) = cells(specs, image, **numbers)
    return cell


def refusal(specs: Specs, image: Specs | None = None, **numbers: int) -> str:
    with pytest.raises(RequestRefused) as refused:
        asked(specs, image, **numbers)
    return str(refused.value)


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        ({}, {}),
        ({"hw:cpu_policy": "shared"}, {}),
        ({}, {"hw_cpu_policy": "shared"}),
        ({"resources:VCPU": "4"}, {}),
        ({"hw:emulator_threads_policy": "share"}, {}),
        (CPUS | MEMORY, {}),
        ({"hw:pmem": " , "}, {}),
        ({"hw:cpu_realtime": "no", "hw:cpu_realtime_mask": "x"}, {"hw_cpu_realtime_mask": "x"}),
        ({}, {f"trait:{TRAIT}": "forbidden"}),
        ({"hw:numa_nodes": "", "hw:cpu_policy": "", "hw:mem_page_size": ""}, {"hw_numa_nodes": ""}),
    ],
)
def test_nothing_that_needs_a_topology_is_asked_for(specs: Specs, image: Specs) -> None:
    assert asked(specs, image) is None


def test_guest_without_a_topology_may_have_any_number_of_vcpus() -> None:
    assert asked({}, vcpus=2**31 - 1) is None


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        ({"hw:numa_nodes": "1"}, {}),
        ({}, {"hw_numa_nodes": "1"}),
        ({"hw:pmem": "6GB, 8GB"}, {}),
        ({"resources:VCPU": "4", "hw:numa_nodes": "1"}, {}),
        ({"hw:mem_page_size": "any"}, {}),
    ],
)
def test_topology_of_shared_cpus(specs: Specs, image: Specs) -> None:
    cell = the_cell(specs, image)
    assert (cell.id, cell.cpuset, cell.pcpuset, cell.memory) == (0, [0, 1, 2, 3], [], 4096)


@pytest.mark.parametrize(
    ("nodes", "each"),
    [
        ("1", [([0, 1, 2, 3], 4096)]),
        ("2", [([0, 1], 2048), ([2, 3], 2048)]),
        ("4", [([0], 1024), ([1], 1024), ([2], 1024), ([3], 1024)]),
    ],
)
def test_nodes_split_cpus_and_memory_evenly(nodes: str, each: list[tuple[list[int], int]]) -> None:
    of_flavor, of_image = cells({"hw:numa_nodes": nodes}), cells({}, {"hw_numa_nodes": nodes})
    assert [(cell.cpuset, cell.memory) for cell in of_flavor] == each
    assert [cell.id for cell in of_flavor] == list(range(len(each)))
    assert of_image == of_flavor


@pytest.mark.parametrize("nodes", ["0", "-1", "x", "1.0", " 2", "02", "+2", "\u0662", "1_0"])
def test_number_of_nodes_is_above_0(nodes: str) -> None:
    reason = f"The property 'numa_nodes' cannot be '{nodes}'. It must be a number greater than 0"
    assert refusal({"hw:numa_nodes": nodes}) == refusal({}, {"hw_numa_nodes": nodes}) == reason


def test_number_of_nodes_is_at_most_novas() -> None:
    assert len(cells({"hw:numa_nodes": "128"}, vcpus=128)) == 128
    reason = "The property 'numa_nodes' cannot be '129'. It must be a number of at most 128"
    assert refusal({"hw:numa_nodes": "129"}, vcpus=129, memory_mb=129) == reason
    assert "of at most 128" in refusal({"hw:numa_nodes": "9" * 60_000})


@pytest.mark.parametrize("numbers", [{"vcpus": 3}, {"memory_mb": 4095}, {"vcpus": 1}])
def test_split_that_is_not_even_is_refused(numbers: dict[str, Any]) -> None:
    assert refusal(TWO_NODES, **numbers) == (
        "Instance CPUs and/or memory cannot be evenly distributed across instance NUMA nodes. "
        "Explicit assignment of CPUs and memory to nodes is required"
    )


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        (LISTED, {}),
        ({}, of_an_image(LISTED)),
        (TWO_NODES, of_an_image(CPUS | MEMORY)),
        (TWO_NODES | CPUS, of_an_image(MEMORY)),
        (LISTED | {"hw:numa_cpus.3": "x", "hw:numa_mem.3": "x"}, {}),
        (LISTED | {"hw:numa_mem.0": " 3072 "}, {}),
    ],
    ids=["flavor", "image", "nodes of the flavor", "one list each", "after a gap", "spaces"],
)
def test_nodes_have_what_is_listed(specs: Specs, image: Specs) -> None:
    each = [(cell.cpuset, cell.memory) for cell in cells(specs, image)]
    assert each == [([0, 1, 2], 3072), ([3], 1024)]


@pytest.mark.parametrize(
    ("spec", "cpus"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("3,1", [1, 3]),
        ("0-3,^2", [0, 1, 3]),
        ("^2,0-3", [0, 1, 3]),
        ("0-3,^1-2", [0, 3]),
        (" 0 - 2 ,, ^ 1, ", [0, 2]),
        ("0-9,^4-9", [0, 1, 2, 3]),
        ("0-65535,^1-65535", [0]),
        ("", []),
        ("^0", []),
    ],
)
def test_cpus_are_listed_as_numbers_ranges_and_exclusions(spec: str, cpus: list[int]) -> None:
    rest = ",".join(str(cpu) for cpu in range(4) if cpu not in cpus)
    first, second = cells(LISTED | {"hw:numa_cpus.0": spec, "hw:numa_cpus.1": rest})
    assert first.cpuset == cpus
    assert second.cpuset == sorted({0, 1, 2, 3} - set(cpus))


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("x", "inclusion"),
        ("65536", "inclusion"),
        ("9" * 60, "inclusion"),
        ("^x", "exclusion"),
        ("^", "exclusion"),
        ("^^1", "exclusion"),
        ("^65536", "exclusion"),
        ("3-1", "range"),
        ("^3-1", "range"),
        ("-1", "range"),
        ("1-", "range"),
        ("0-1-2", "range"),
        ("0-65536", "range"),
        ("0-4000000000", "range"),
        ("^0-4000000000", "range"),
        ("a-b", "range"),
    ],
)
def test_bad_rule_of_a_list_is_refused(rule: str, kind: str) -> None:
    reason = f"Invalid {kind} expression '{rule}'"
    assert refusal(LISTED | {"hw:numa_cpus.0": f"0,{rule}"}) == reason
    assert refusal(TWO_NODES | MEMORY, of_an_image(CPUS) | {"hw_numa_cpus.1": rule}) == reason
    assert refusal(MIXED | {"hw:cpu_dedicated_mask": f"0,{rule}"}) == reason
    assert refusal(MIXED | REALTIME, {"hw_cpu_realtime_mask": f"0,{rule}"}) == reason


@pytest.mark.parametrize("spec", ["0-65535," * 8000 + "x", "," * 65_000 + "x", "0," * 32_000 + "x"])
def test_long_list_costs_little(spec: str) -> None:
    assert refusal(LISTED | {"hw:numa_cpus.0": spec}) == "Invalid inclusion expression 'x'"


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({"hw:numa_cpus.1": "3-4"}, "CPU number 4 is larger than max 3"),
        ({"hw:numa_cpus.1": "2-3"}, "CPU number 2 is assigned to two nodes"),
        ({"hw:numa_cpus.0": "0", "hw:numa_cpus.1": ""}, "CPU number {1, 2, 3} is not assigned to any node"),
        ({"hw:numa_mem.0": "3071"}, "4095 MB of memory assigned, but expected 4096 MB"),
        ({"hw:numa_mem.1": "9999999999"}, "10000003071 MB of memory assigned, but expected 4096 MB"),
    ],
)
def test_lists_assign_all_that_the_flavor_has(lists: dict[str, str], reason: str) -> None:
    assert refusal(LISTED | lists) == reason
    assert refusal({}, of_an_image(LISTED | lists)) == reason


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "+1024", "1" * 11, "\u0661"])
def test_memory_of_a_node_is_a_number(text: str) -> None:
    reason = f"The property 'numa_mem.1' cannot be '{text}'. It must be a number of MB"
    assert refusal(LISTED | {"hw:numa_mem.1": text}) == reason


@pytest.mark.parametrize(
    "specs",
    [
        TWO_NODES | CPUS,
        TWO_NODES | MEMORY,
        CPUS | MEMORY | {"hw:numa_nodes": "1"},
        CPUS | MEMORY | {"hw:numa_nodes": "4"},
        TWO_NODES | MEMORY | {"hw:numa_cpus.0": "0-3"},
        TWO_NODES | CPUS | {"hw:numa_mem.0": "4096"},
    ],
)
def test_lists_are_complete_or_absent(specs: Specs) -> None:
    assert refusal(specs) == "CPU and memory allocation must be provided for all NUMA nodes"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ({"hw_numa_nodes": "2"}, "hw_numa_nodes"),
        ({"hw_numa_cpus.0": "0-2"}, "hw_numa_cpus"),
        ({"hw_numa_mem.0": "3072"}, "hw_numa_mem"),
    ],
)
def test_image_does_not_override_the_flavors_nodes(image: Specs, name: str) -> None:
    assert refusal(LISTED, image) == (
        f"Image property '{name}' is not permitted to override NUMA configuration set against the flavor"
    )


@pytest.mark.parametrize(
    ("specs", "image", "pagesize"),
    [
        ("small", None, -1),
        ("large", None, -2),
        ("any", None, -3),
        ("2048", None, 2048),
        ("2MB", None, 2048),
        ("1GB", None, 1024**2),
        ("any", "large", -2),
        ("any", "small", -1),
        ("any", "2048", 2048),
        ("large", "1GB", 1024**2),
        ("large", "any", -3),
    ],
)
def test_page_size(specs: str, image: str | None, pagesize: int) -> None:
    properties = {} if image is None else {"hw_mem_page_size": image}
    assert the_cell({"hw:mem_page_size": specs}, properties).pagesize == pagesize
    both = cells(TWO_NODES | {"hw:mem_page_size": specs}, properties)
    assert [cell.pagesize for cell in both] == [pagesize, pagesize]


@pytest.mark.parametrize("text", ["huge", "-1", "2XB", " ", "\u00b2", "Any", "2M", "1G", "2048 "])
def test_page_size_that_is_none_is_refused(text: str) -> None:
    reason = f"Invalid memory page size '{text}'"
    assert refusal({"hw:mem_page_size": text}) == reason
    assert refusal({"hw:mem_page_size": "any"}, {"hw_mem_page_size": text}) == reason


@pytest.mark.parametrize("text", ["0", "000", "0B"])
def test_page_size_of_zero_is_not_asked_for(text: str) -> None:
    assert asked({"hw:mem_page_size": text}) is None
    assert asked({"hw:mem_page_size": "any"}, {"hw_mem_page_size": text}) is None
    assert the_cell({"hw:mem_page_size": text} | DEDICATED).pagesize is None


@pytest.mark.parametrize(
    ("specs", "image", "against"),
    [
        ({}, "large", "<empty>"),
        ({"hw:mem_page_size": "small"}, "large", "small"),
        ({"hw:mem_page_size": "2MB"}, "2048", "2MB"),
        ({"hw:mem_page_size": "0"}, "2048", "0"),
    ],
)
def test_image_only_narrows_a_choice_of_page_sizes(specs: Specs, image: str, against: str) -> None:
    reason = f"Page size {image} forbidden against '{against}'"
    assert refusal(specs, {"hw_mem_page_size": image}) == reason


@pytest.mark.parametrize(
    ("of_flavor", "of_image", "policy"),
    [
        ("dedicated", "", "dedicated"),
        ("dedicated", "shared", "dedicated"),
        ("dedicated", "mixed", "dedicated"),
        ("dedicated", "dedicated", "dedicated"),
        ("mixed", "", "mixed"),
        ("mixed", "shared", "mixed"),
        ("mixed", "mixed", "mixed"),
        ("shared", "", "shared"),
        ("shared", "shared", "shared"),
        ("", "dedicated", "dedicated"),
        ("", "mixed", "mixed"),
        ("", "shared", "shared"),
        ("", "", None),
    ],
)
def test_cpu_policy(of_flavor: str, of_image: str, policy: str | None) -> None:
    mask = MASK if policy == "mixed" else {}
    specs = {"hw:numa_nodes": "1", "hw:cpu_policy": of_flavor, **mask}
    cell = the_cell(specs, {"hw_cpu_policy": of_image})
    dedicated = {"dedicated": [0, 1, 2, 3], "mixed": [0, 1]}.get(policy or "", [])
    shared = [cpu for cpu in range(4) if cpu not in dedicated]
    assert (cell.cpu_policy, cell.pcpuset, cell.cpuset) == (policy, dedicated, shared)


@pytest.mark.parametrize(
    ("of_flavor", "of_image"), [("mixed", "dedicated"), ("shared", "dedicated"), ("shared", "mixed")]
)
def test_image_does_not_ask_for_more_dedicated_cpus(of_flavor: str, of_image: str) -> None:
    assert refusal({"hw:cpu_policy": of_flavor}, {"hw_cpu_policy": of_image}) == (
        "Image property 'hw_cpu_policy' is not permitted to override CPU pinning policy set against "
        "the flavor"
    )


def test_dedicated_cpus_ask_for_a_topology() -> None:
    wanted = GuestCell(id=0, cpuset=[], pcpuset=[0, 1, 2, 3], memory=4096, cpu_policy=CpuPolicy.DEDICATED)
    assert asked(DEDICATED) == asked({}, of_an_image(DEDICATED)) == GuestTopology([wanted])


@pytest.mark.parametrize(
    ("of_flavor", "of_image", "policy"),
    [
        ("prefer", "", "prefer"),
        ("prefer", "isolate", "prefer"),
        ("isolate", "", "isolate"),
        ("isolate", "isolate", "isolate"),
        ("require", "require", "require"),
        ("", "prefer", "prefer"),
        ("", "isolate", "isolate"),
        ("", "require", "require"),
        ("", "", None),
    ],
)
def test_thread_policy(of_flavor: str, of_image: str, policy: str | None) -> None:
    specs = DEDICATED | {"hw:cpu_thread_policy": of_flavor}
    assert the_cell(specs, {"hw_cpu_thread_policy": of_image}).cpu_thread_policy == policy


@pytest.mark.parametrize(
    ("of_flavor", "of_image"), [("isolate", "require"), ("require", "prefer"), ("require", "isolate")]
)
def test_image_does_not_override_the_thread_policy(of_flavor: str, of_image: str) -> None:
    specs = DEDICATED | {"hw:cpu_thread_policy": of_flavor}
    assert refusal(specs, {"hw_cpu_thread_policy": of_image}) == (
        "Image property 'hw_cpu_thread_policy' is not permitted to override CPU thread pinning policy "
        "set against the flavor"
    )


CHOICES = {
    "cpu_policy": ("CPU policy", "('dedicated', 'shared', 'mixed')"),
    "cpu_thread_policy": ("CPU thread policy", "('prefer', 'isolate', 'require')"),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["x", "Dedicated", " prefer"])
def test_unknown_policy_is_refused(name: str, value: str) -> None:
    what, choices = CHOICES[name]
    rest = f"is invalid, given: '{value}', available: '{choices}'."
    of_flavor = refusal({f"hw:{name}": value})
    assert of_flavor == f"{what} requested from 'flavor extra specs' {rest}"
    assert refusal({}, {f"hw_{name}": value}) == f"{what} requested from 'image properties' {rest}"


@pytest.mark.parametrize("policy", ["share", "isolate", None])
@pytest.mark.parametrize("pinned", [DEDICATED, MIXED | MASK], ids=["dedicated", "mixed"])
def test_emulator_threads_policy(pinned: Specs, policy: str | None) -> None:
    topology = asked({**pinned, "hw:emulator_threads_policy": policy or ""})
    assert topology is not None
    assert topology.emulator_threads_policy == policy


@pytest.mark.parametrize("specs", [{}, DEDICATED, DEDICATED | ISOLATE, {"resources:PCPU": "4"}])
@pytest.mark.parametrize("of_image", ["share", "isolate", "x"])
def test_emulator_threads_policy_of_an_image_is_not_read(specs: Specs, of_image: str) -> None:
    """Whoever uploads an image would take CPUs of the host, or make every guest of it be refused."""
    assert asked(specs, {"hw_emulator_threads_policy": of_image}) == asked(specs)


def test_emulator_threads_are_shared_without_pinning_too() -> None:
    topology = asked(TWO_NODES | {"hw:emulator_threads_policy": "share"})
    assert topology is not None
    assert topology.emulator_threads_policy == "share"


def test_unknown_emulator_threads_policy_is_refused() -> None:
    reason = (
        "CPU emulator threads option requested is invalid, given: 'x', available: '('share', 'isolate')'."
    )
    assert refusal(DEDICATED | {"hw:emulator_threads_policy": "x"}) == reason


NOT_PINNED = [{}, {"hw:cpu_policy": "shared"}, {"resources:VCPU": "4"}, TWO_NODES]
NOT_WITHOUT_PINNING = [
    (ISOLATE, "An isolated CPU emulator threads option requires a dedicated CPU policy option."),
    (
        {"hw:cpu_thread_policy": "prefer"},
        "Cannot set cpu thread pinning policy in a non dedicated cpu pinning policy",
    ),
    (
        {f"trait:{TRAIT}": "required"},
        "Cannot set cpu thread pinning policy in a non dedicated cpu pinning policy",
    ),
    (MASK, "Cannot specify 'hw:cpu_dedicated_mask' without the 'mixed' policy."),
    (REALTIME, "Cannot set realtime policy in a non dedicated cpu pinning policy"),
]


@pytest.mark.parametrize("specs", NOT_PINNED)
@pytest.mark.parametrize(("more", "reason"), NOT_WITHOUT_PINNING)
def test_settings_of_dedicated_cpus_need_some(specs: Specs, more: Specs, reason: str) -> None:
    assert refusal({**specs, **more}) == reason


def test_dedicated_cpus_have_no_mask() -> None:
    reason = "Cannot specify 'hw:cpu_dedicated_mask' without the 'mixed' policy."
    assert refusal(DEDICATED | MASK) == reason


@pytest.mark.parametrize(
    ("mask", "dedicated"),
    [
        ("0", [0]),
        ("0-1", [0, 1]),
        ("0-2,^1", [0, 2]),
        ("^0", [1, 2, 3]),
        (" ^0-1", [2, 3]),
        ("^0,^3", [1, 2]),
    ],
)
def test_mask_of_dedicated_cpus(mask: str, dedicated: list[int]) -> None:
    cell = the_cell(MIXED | {"hw:cpu_dedicated_mask": mask})
    assert (cell.pcpuset, cell.cpuset) == (dedicated, sorted({0, 1, 2, 3} - set(dedicated)))


def test_mask_is_split_over_the_nodes() -> None:
    first, second = cells(LISTED | MIXED | {"hw:cpu_dedicated_mask": "^0"})
    assert (first.cpuset, first.pcpuset) == ([0], [1, 2])
    assert (second.cpuset, second.pcpuset) == ([], [3])


@pytest.mark.parametrize("mask", ["0-3", "0-9", "^0-3", "^4,^0-3", ",", "0,^0"])
def test_mask_leaves_dedicated_and_shared_cpus(mask: str) -> None:
    assert refusal(MIXED | {"hw:cpu_dedicated_mask": mask}) == (
        "Mixed instance must have at least 1 pinned vCPU and 1 unpinned vCPU. See 'hw:cpu_dedicated_mask'."
    )


@pytest.mark.parametrize("mask", ["4", "0,4", "^0,5"])
def test_mask_is_of_the_flavors_cpus(mask: str) -> None:
    assert refusal(MIXED | {"hw:cpu_dedicated_mask": mask}) == (
        "Mixed instance dedicated vCPU(s) mask is not a subset of vCPUs in the flavor. "
        'See "hw:cpu_dedicated_mask"'
    )


@pytest.mark.parametrize("specs", [MIXED, MIXED | MASK | REALTIME])
def test_mixed_cpus_have_one_mask(specs: Specs) -> None:
    assert refusal(specs) == (
        "Dedicated CPU set can be specified from either 'hw:cpu_dedicated_mask' or 'hw:cpu_realtime_mask' "
        "when using 'mixed' CPU policy. 'hw:cpu_dedicated_mask' and 'hw:cpu_realtime_mask' can not be "
        "specified at the same time, or be specified with none of them."
    )


@pytest.mark.parametrize("true", ["1", "t", "True", "ON", "y", " yes "])
def test_realtime_cpus_are_the_dedicated_ones_of_a_mixed_guest(true: str) -> None:
    cell = the_cell(MIXED | REALTIME | {"hw:cpu_realtime": true})
    assert (cell.pcpuset, cell.cpuset) == ([2, 3], [0, 1])


@pytest.mark.parametrize(
    ("of_flavor", "of_image", "realtime"),
    [("^0", "", [1, 2, 3]), ("", "^1", [0, 2, 3]), ("2-3", "1", [1]), ("0-3", "0", [0])],
)
def test_realtime_mask_of_an_image_goes_first(of_flavor: str, of_image: str, realtime: list[int]) -> None:
    specs = MIXED | {"hw:cpu_realtime": "1", "hw:cpu_realtime_mask": of_flavor}
    assert the_cell(specs, {"hw_cpu_realtime_mask": of_image}).pcpuset == realtime


@pytest.mark.parametrize("mask", [{}, {"hw:cpu_realtime_mask": "0-3"}])
@pytest.mark.parametrize("emulator", ["share", "isolate"])
def test_all_cpus_are_realtime_when_the_emulator_is_elsewhere(mask: Specs, emulator: str) -> None:
    specs = {**mask, "hw:cpu_realtime": "1"}
    elsewhere = {"hw:emulator_threads_policy": emulator}
    for policy in (DEDICATED, MIXED):
        assert the_cell(policy | specs | elsewhere).pcpuset == [0, 1, 2, 3]


@pytest.mark.parametrize("mask", [{}, {"hw:cpu_realtime_mask": "0-3"}, {"hw:cpu_realtime_mask": "^0-3"}])
def test_realtime_leaves_a_cpu_to_the_emulator(mask: Specs) -> None:
    assert refusal({**DEDICATED, **mask, "hw:cpu_realtime": "1"}) == (
        "Use of realtime CPUs requires either one or more non-realtime CPU(s) or offloaded emulator threads."
    )


def test_realtime_mask_is_of_the_flavors_cpus() -> None:
    assert refusal(DEDICATED | REALTIME | {"hw:cpu_realtime_mask": "3-4"}) == (
        "Realtime policy vCPU(s) mask is configured with RT vCPUs that are not a subset of the vCPUs in the "
        "flavor. See hw:cpu_realtime_mask or hw_cpu_realtime_mask"
    )


def test_realtime_mask_does_not_narrow_a_dedicated_guest() -> None:
    assert asked(DEDICATED | REALTIME) == asked(DEDICATED)


@pytest.mark.parametrize(
    "specs",
    [
        {"resources:PCPU": "4"},
        {"resources1:PCPU": "4"},
        {"resources:PCPU": "1", "resources12:PCPU": "3"},
        {"resources:PCPU": "4", "resources:VCPU": "0"},
        {"resources:PCPU": "4", "resources:VCPU": "x"},
        {"resources:PCPU": "4", "resources0:PCPU": "1", "resources:PCPU_X": "1", "xresources:PCPU": "1"},
        {"resources:PCPU": "5", **ISOLATE},
    ],
)
def test_pcpus_ask_for_dedicated_cpus(specs: Specs) -> None:
    cell = the_cell(specs)
    assert (cell.cpu_policy, cell.pcpuset) == ("dedicated", [0, 1, 2, 3])


@pytest.mark.parametrize("specs", [{"resources:VCPU": "1"}, {"resources7:VCPU": "4"}])
def test_vcpus_ask_for_shared_cpus(specs: Specs) -> None:
    cell = the_cell({**TWO_NODES, **specs, "hw:numa_nodes": "1"})
    assert (cell.cpu_policy, cell.cpuset) == ("shared", [0, 1, 2, 3])


@pytest.mark.parametrize("value", ["0", "x", "", "9" * 5000])
def test_resources_that_are_no_number_ask_for_nothing(value: str) -> None:
    """Nova leaves them to what reads resources for placement, which skips them with a warning."""
    assert the_cell({"hw:numa_nodes": "1", "resources:PCPU": value}).cpu_policy is None


@pytest.mark.parametrize("resource", ["resources:PCPU", "resources:VCPU", "resources2:PCPU"])
@pytest.mark.parametrize(("specs", "image"), [(DEDICATED, {}), ({}, {"hw_cpu_policy": "shared"})])
def test_cpus_are_asked_for_in_one_way(resource: str, specs: Specs, image: Specs) -> None:
    assert refusal({**specs, resource: "4"}, image) == (
        "It is not possible to use the 'resources:VCPU' or 'resources:PCPU' extra specs in combination with "
        "the 'hw:cpu_policy' extra spec or 'hw_cpu_policy' image metadata property; use one or the other"
    )


def test_vcpus_and_pcpus_are_not_asked_for_together() -> None:
    assert refusal({"resources:PCPU": "2", "resources1:VCPU": "2"}) == (
        "It is not possible to specify both 'resources:VCPU' and 'resources:PCPU' extra specs; use one or "
        "the other"
    )


@pytest.mark.parametrize("amount", ["3", "5", "-4", "9" * 400])
def test_pcpus_are_as_many_as_the_flavors_cpus(amount: str) -> None:
    reason = (
        "There is a mismatch between the number of PCPUs requested via 'resourcesNN:PCPU' and the flavor); "
        "you must allocate exactly flavor.vcpus PCPUs"
    )
    specs = {"resources:PCPU": amount}
    assert refusal(specs) == refusal(specs | {"hw:emulator_threads_policy": "share"}) == reason


@pytest.mark.parametrize("amount", ["4", "6"])
def test_isolated_emulator_threads_take_one_more_pcpu(amount: str) -> None:
    assert refusal({"resources:PCPU": amount, **ISOLATE}) == (
        "You have requested 'hw:emulator_threads_policy=isolate' but have not requested sufficient PCPUs to "
        "handle this policy; you must allocate exactly flavor.vcpus + 1 PCPUs."
    )


@pytest.mark.parametrize(
    ("specs", "image", "policy"),
    [
        ({f"trait:{TRAIT}": "required"}, {}, "require"),
        ({f"trait:{TRAIT}": "forbidden"}, {}, "isolate"),
        ({f"trait3:{TRAIT}": "forbidden"}, {}, "isolate"),
        ({}, {f"trait:{TRAIT}": "required"}, "require"),
        ({}, {f"trait:{TRAIT}": "forbidden"}, None),
        ({f"trait:{TRAIT}": "forbidden"}, {f"trait:{TRAIT}": "required"}, "isolate"),
        ({f"trait:{TRAIT}": "else"}, {}, None),
        ({f"trait0:{TRAIT}": "required", f"trait:{TRAIT}_X": "required"}, {}, None),
    ],
)
@pytest.mark.parametrize("pinned", [DEDICATED, {"resources:PCPU": "4"}], ids=["policy", "resources"])
def test_hyperthreading_trait(pinned: Specs, specs: Specs, image: Specs, policy: str | None) -> None:
    assert the_cell({**pinned, **specs}, image).cpu_thread_policy == policy


def test_one_of_several_groups_has_the_trait_whatever_their_order() -> None:
    groups = [(f"trait:{TRAIT}", "required"), (f"trait2:{TRAIT}", "forbidden")]
    orders = [the_cell(DEDICATED | dict(order)) for order in (groups, groups[::-1])]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        ({f"trait:{TRAIT}": "required"}, {"hw_cpu_thread_policy": "require"}),
        ({f"trait1:{TRAIT}": "forbidden", "hw:cpu_thread_policy": "isolate"}, {}),
        ({"hw:cpu_thread_policy": "require"}, {f"trait:{TRAIT}": "required"}),
    ],
)
def test_threads_are_asked_for_in_one_way(specs: Specs, image: Specs) -> None:
    assert refusal({**DEDICATED, **specs}, image) == (
        "It is not possible to use the 'trait:HW_CPU_HYPERTHREADING' extra spec in combination with the "
        "'hw:cpu_thread_policy' extra spec or 'hw_cpu_thread_policy' image metadata property; use one or the "
        "other"
    )


def test_all_cells_have_the_policies_of_the_guest() -> None:
    specs = LISTED | MIXED | MASK | {"hw:cpu_thread_policy": "isolate", "hw:mem_page_size": "1GB"}
    policies: dict[str, Any] = {"pagesize": 1024**2, "cpu_policy": "mixed", "cpu_thread_policy": "isolate"}
    assert asked(specs | ISOLATE) == GuestTopology(
        [
            GuestCell(id=0, cpuset=[2], pcpuset=[0, 1], memory=3072, **policies),
            GuestCell(id=1, cpuset=[3], pcpuset=[], memory=1024, **policies),
        ],
        emulator_threads_policy=EmulatorThreadsPolicy.ISOLATE,
    )


@pytest.mark.parametrize(
    "specs", [DEDICATED, MIXED | MASK, MIXED | REALTIME, {"hw:numa_nodes": "1"}, {"hw:pmem": "6GB"}]
)
def test_guest_with_a_topology_has_a_bounded_number_of_cpus(specs: Specs) -> None:
    assert the_cell(specs, vcpus=4096) is not None
    for vcpus in (4097, 2**31 - 1):
        reason = f"A NUMA topology of {vcpus} vCPUs is too large: it has at most 4096"
        assert refusal(specs, vcpus=vcpus) == reason


def test_guest_without_cpus_has_an_empty_cell() -> None:
    cell = the_cell({"hw:numa_nodes": "1"}, vcpus=0)
    assert (cell.cpuset, cell.pcpuset) == ([], [])
    assert refusal(DEDICATED | {"hw:cpu_realtime": "1"} | ISOLATE, vcpus=0).startswith("Use of realtime")
    assert refusal(MIXED | {"hw:cpu_dedicated_mask": "^0"}, vcpus=0) == "Invalid range expression '0--1'"


@pytest.mark.parametrize(
    ("specs", "quoted"),
    [
        ({"hw:cpu_policy": "x" * 60_000}, f"'{'x' * 64}...'"),
        ({"hw:cpu_policy": "a\nb\ud800c\x00"}, "'a?b?c?'"),
        ({"hw:mem_page_size": "\u202e" * 9}, f"'{'?' * 9}'"),
        (DEDICATED | {"hw:cpu_realtime": "1", "hw:cpu_realtime_mask": "y" * 65}, f"'{'y' * 64}...'"),
    ],
)
def test_reason_quotes_little_of_a_text_and_only_what_prints(specs: Specs, quoted: str) -> None:
    assert quoted in refusal(specs)


def test_reason_names_only_the_first_of_many_cpus() -> None:
    specs = {"hw:numa_nodes": "1", "hw:numa_cpus.0": "", "hw:numa_mem.0": "4096"}
    reason = refusal(specs, vcpus=4096)
    assert reason.startswith("CPU number {0, 1, 2, ")
    assert len(reason) < 120


@pytest.mark.parametrize("policy", ["required", "preferred", "legacy", "socket"])
def test_pci_numa_policy(policy: str) -> None:
    specs = {"hw:pci_numa_affinity_policy": policy}
    for of_flavor, of_image in ((specs, {}), ({}, specs), (specs, specs)):
        assert pci_numa_policy_of(flavor_with(of_flavor), of_an_image(of_image)) == policy


def test_pci_numa_policy_is_not_asked_for() -> None:
    assert pci_numa_policy_of(flavor_with({}), {}) is None
    assert pci_numa_policy_of(flavor_with({"hw:pci_numa_affinity_policy": ""}), {}) is None


def test_flavor_and_image_agree_on_the_pci_numa_policy() -> None:
    flavor = flavor_with({"hw:pci_numa_affinity_policy": "legacy"})
    with pytest.raises(RequestRefused) as refused:
        pci_numa_policy_of(flavor, {"hw_pci_numa_affinity_policy": "socket"})
    assert str(refused.value) == (
        "Image property 'hw_pci_numa_affinity_policy' is not permitted to override the "
        "'hw:pci_numa_affinity_policy' flavor extra spec."
    )


@pytest.mark.parametrize("specs", [{}, {"hw:pci_numa_affinity_policy": "x"}])
def test_unknown_pci_numa_policy_is_refused(specs: Specs) -> None:
    with pytest.raises(RequestRefused, match=r"^Invalid PCI NUMA affinity configured: x$"):
        pci_numa_policy_of(flavor_with(specs), {"hw_pci_numa_affinity_policy": "x"})


SETTINGS = [
    "numa_nodes", "numa_cpus.0", "numa_cpus.1", "numa_mem.0", "numa_mem.1", "mem_page_size", "cpu_policy",
    "cpu_thread_policy", "emulator_threads_policy", "cpu_dedicated_mask", "cpu_realtime",
    "cpu_realtime_mask", "pmem", "pci_numa_affinity_policy",
]  # fmt: skip
GROUPS = [f"trait:{TRAIT}", f"trait1:{TRAIT}", "resources:PCPU", "resources1:PCPU", "resources:VCPU"]
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("0123456789^-, _.+\u0663", max_size=12),
    st.sampled_from(["1", "2", "4", "0-1", "2-3", "^0", "2048", "4096", "2MB", "any", "large", "9" * 5000]),
    st.sampled_from(["dedicated", "shared", "mixed", "isolate", "share", "require", "prefer", "yes"]),
    st.sampled_from(["required", "forbidden", "socket", "legacy", "0-4000000000", "\ud800", "\x00"]),
)
EXTRA_SPECS = st.dictionaries(
    st.sampled_from([*(f"hw:{name}" for name in SETTINGS), *GROUPS]), TEXTS, max_size=6
)
PROPERTIES = st.dictionaries(
    st.sampled_from([*(f"hw_{name}" for name in SETTINGS), f"trait:{TRAIT}"]), TEXTS, max_size=3
)


@settings(max_examples=3 * settings().max_examples, derandomize=True, database=None)
@given(EXTRA_SPECS, PROPERTIES, st.integers(0, 8), st.sampled_from([0, 1, 4096]))
def test_any_text_is_taken_or_refused(specs: Specs, image: Specs, vcpus: int, memory_mb: int) -> None:
    flavor = flavor_with(specs, vcpus, memory_mb)
    answers: list[Any] = []
    for rule in (constraints_of, pci_numa_policy_of):
        try:
            answers.append(rule(flavor, image))
        except RequestRefused as refused:
            assert str(refused).isprintable()
            assert len(str(refused)) < 400
            answers.append(None)
    topology = answers[0]
    if topology is not None:
        assert convert(to_builtins(topology), GuestTopology) == topology
        cpus = [cpu for cell in topology.cells for cpu in (*cell.cpuset, *cell.pcpuset)]
        assert sorted(cpus) == list(range(vcpus))
        assert sum(cell.memory for cell in topology.cells) == memory_mb


def test_plain_flavor_and_image_end_before_the_rules_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly every boot: with neither extra specs nor properties there is nothing to read."""
    for rule in ("policies_of", "asked", "refuse_memory_contradictions"):
        monkeypatch.setattr(f"tracker_worker.domain.numa.constraints.{rule}", None)
    assert constraints_of(a_flavor(), {}) is None
    assert pci_numa_policy_of(a_flavor(), {}) is None
