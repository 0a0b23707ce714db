# SPDX-License-Identifier: Apache-2.0
"""Which of Nova's functional tests are run: those that exercise the resource tracker."""

import re
from collections.abc import Iterable

PREFIX = "nova.tests.functional."

UNIT = tuple(
    rf"^nova\.tests\.unit\.compute\.{module}\." for module in ("test_claims", "test_resource_tracker")
)
"""stestr's filters for the unit tests of Nova's tracker and claims, which mock most of what these call."""

ALL = (
    "compute.test_init_host.",
    "compute.test_resource_tracker.",
    "libvirt.test_evacuate.",
    "libvirt.test_numa_live_migration.",
    "libvirt.test_numa_servers.NUMAServersRebuildTests.",
    "libvirt.test_numa_servers.NUMAServersTest.",
    "libvirt.test_numa_servers.NUMAServersWithNetworksTest.",
    "libvirt.test_numa_servers.ReshapeForPCPUsTest.",
    "libvirt.test_pci_in_placement.",
    "libvirt.test_pci_sriov_servers.",
    "libvirt.test_reshape.",
    "libvirt.test_vgpu.",
    "libvirt.test_vpmem.",
    "regressions.test_bug_1862633.",
    "regressions.test_bug_1879878.",
    "regressions.test_bug_1896463.",
    "test_cold_migrate.",
    "test_cross_cell_migrate.",
    "test_servers.ServerMovingTests.",
    "test_servers.ServerMovingTestsFromFlatToNested.",
    "test_servers_provider_tree.",
    "test_servers_resource_request.ServerMoveWithPortResourceRequestTest.",
    "wsgi.test_services.ComputeStatusFilterTest.",
)
"""What the names of the tests begin with, after PREFIX."""

SLICE = {
    "compute.test_init_host.TestComputeRestartInstanceStuckInBuild": (
        "test_restart_compute_while_instance_waiting_for_resource_claim",
    ),
    "compute.test_resource_tracker.IronicResourceTrackerTest": ("test_node_stats_isolation",),
    "libvirt.test_numa_live_migration.NUMALiveMigrationPositiveTests": ("test_numa_live_migration",),
    "libvirt.test_numa_live_migration.NUMALiveMigrationRollbackTests": ("test_rollback",),
    "libvirt.test_numa_servers.NUMAServersTest": (
        "test_create_server_with_hugepages",
        "test_create_server_with_mixed_policy",
        "test_resize_revert_server_with_numa",
    ),
    "libvirt.test_pci_in_placement.PlacementPCIAllocationHealingTests": (
        "test_heal_allocation_during_same_host_resize",
    ),
    "libvirt.test_pci_in_placement.RCAndTraitBasedPCIAliasTests": (
        "test_device_claim_consistent_with_placement_allocation",
    ),
    "libvirt.test_pci_sriov_servers.PCIServersTest": (
        "test_evacuate",
        "test_resize_from_one_dev_to_two",
        "test_unshelve_after_offload",
    ),
    "libvirt.test_pci_sriov_servers.SRIOVAttachDetachTest": ("test_detach_attach_direct",),
    "libvirt.test_pci_sriov_servers.SRIOVServersTest": ("test_live_migrate_server_with_neutron",),
    "libvirt.test_vpmem.VPMEMResizeTests": ("test_resize",),
    "regressions.test_bug_1896463.TestEvacuateResourceTrackerRace": (
        "test_evacuate_races_with_update_available_resource",
    ),
    "test_servers.ServerMovingTests": (
        "test_evacuate_clean_hypervisor",
        "test_live_migrate",
        "test_rescheduling_when_migrating_instance",
        "test_resize_confirm",
        "test_resize_revert",
        "test_shelve_offload_unshelve_diff_host",
    ),
}
"""By class, after PREFIX: tests of every kind of claim, enough for a first look."""


def patterns() -> list[str]:
    """Return stestr's filters for ALL."""
    return ["^" + re.escape(PREFIX + name) for name in ALL]


def slice_patterns() -> list[str]:
    """Return stestr's filters for SLICE."""
    return exactly(f"{owner}.{test}" for owner, tests in SLICE.items() for test in tests)


def exactly(names: Iterable[str]) -> list[str]:
    """Return stestr's filters for single tests, named after PREFIX."""
    return [f"^{re.escape(PREFIX + name)}$" for name in names]


def module_of(test: str) -> str:
    """Return the module of a test, without PREFIX. What is no test of Nova's is its own module."""
    name = test.partition("(")[0].removeprefix(PREFIX)
    parts = name.split(".")
    return ".".join(parts[:-2]) or name
