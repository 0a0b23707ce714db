# SPDX-License-Identifier: Apache-2.0
"""What differs or fails and is meant to, by a pattern, with the reason; the documentation lists the same."""

import re

DIFFERENCES: dict[str, str] = {}
"""Of mirror: a pattern of "test: node field: value in Nova, value in the worker"."""

FAILURES: dict[str, str] = {
    r"NUMALiveMigrationRollbackTests\.test_bug_1894095_(pre|post)_drop$": (
        "asserts Nova's fault: an audit between failure and rollback counts the destination's pins at the "
        "source. The worker counts the source's."
    ),
    r"\.test_evacuate_claim_on_dest_fails_": (
        "makes nova.compute.claims.MoveClaim fail, in whose place replace has a claim of the worker"
    ),
    r"test_resource_tracker\.TestInstanceClaim\.": (
        "puts a node into the tracker's memory: the worker has no report of it"
    ),
    r"test_resource_tracker\.TestLiveMigration\.test_live_migration_claim$": (
        "forbids SQL in its process, in which the worker is"
    ),
    r"TestPciTrackerDelegationMethods\.test_claim_pci_devices$": "passes sentinels in place of requests",
    r"TestResize\.test_resize_claim_dest_host_with_pci$": (
        "mocks Nova's PCI tracker: the worker has no report of devices"
    ),
    r"TestResize\.test_resize_claim_same_host$": (
        "mocks InstanceList.get_by_host_and_node, at which the adapter reads what an audit reads"
    ),
    r"TestUpdateAvailableResources\.test_(no|some)_instances_": (
        "mocks _update, after which the worker's usage is written into the compute node"
    ),
    r"TestUpdateComputeNode\.": (
        "calls _update by itself: it is the public method around it that saves the compute node"
    ),
}
"""Of replace: a pattern of the test's name."""


def reason(known: dict[str, str], text: str) -> str | None:
    """Return why this is known, None if it is not."""
    return next((why for pattern, why in known.items() if re.search(pattern, text)), None)
