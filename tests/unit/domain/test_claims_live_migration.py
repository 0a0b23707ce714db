# SPDX-License-Identifier: Apache-2.0
"""Claims of live migrations: they take no devices yet, and the size of pages has to stay."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import OTHER_MOVE, a_flavor, a_migration, a_node, an_instance, decided
from tests.topologies import (
    DEDICATED,
    HUGE_KB,
    PAGES,
    SMALL_KB,
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_request,
    host_resources,
    pins_of,
    placed,
    statuses_of,
)
from tests.unit.domain.claiming import (
    NUMA_AND_PCI,
    PCI,
    PINNED,
    SHORT,
    TIGHT,
    asks,
    granted,
    refused,
    the_claim,
)
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.objects import GuestTopology

PAGE_SIZE = "Requested page size is different from current page size"
HUGE_HOST = a_host(1, pages=PAGES)
HUGE_FLAVOR = a_flavor(2, 1024, extra_specs=DEDICATED | {"hw:mem_page_size": "large"})


def live(*, now: int | str | None = HUGE_KB, flavor: Flavor = HUGE_FLAVOR, **more: Any) -> AnyCommand:
    """A live migration of an instance whose memory has pages of this size at the source."""
    topology = None if now == "unknown" else placed(a_guest(), {5: [7, 8]}, pagesize=now)
    instance = an_instance(flavor=flavor, numa_topology=topology)
    return asks("live_migration_claim", flavor, instance, **more)


def test_live_migration_tests_devices_and_takes_none() -> None:
    node = a_numa_node(host=HUGE_HOST, devices=[a_device("d1")])
    assert refused(node, live(pci_requests=[a_request(2)])) == f"{NUMA_AND_PCI}; {PCI}"
    after = granted(node, live(pci_requests=[a_request()]))
    claim = the_claim(after)
    assert (claim.pci_devices, claim.pci_requests) == ((), (a_request(),))
    assert (pins_of(claim), claim.assigned) == ({0: [2, 3]}, True)
    assert statuses_of(after) == {"d1": "available"}


@pytest.mark.parametrize("method", ["rebuild_claim", "resize_claim"])
def test_another_move_takes_the_devices_that_a_live_migration_left(method: str) -> None:
    """The source dies during a live migration, and the instance is evacuated to the same node."""
    asked: dict[str, Any] = {"pci_requests": [a_request()]}
    node = granted(a_numa_node(devices=[a_device("d1")]), asks("live_migration_claim", **asked))
    node = granted(node, asks(method, migration=a_migration(OTHER_MOVE), **asked))
    assert statuses_of(node) == {"d1": "allocated"}
    assert the_claim(node).migration_uuid == OTHER_MOVE


@pytest.mark.parametrize(
    ("now", "reason"),
    [(HUGE_KB, None), (1048576, PAGE_SIZE), (SMALL_KB, PAGE_SIZE), (None, PAGE_SIZE), ("unknown", None)],
)
def test_live_migration_keeps_the_size_of_pages(now: int | None | str, reason: str | None) -> None:
    _, decision = decided(a_numa_node(host=HUGE_HOST), live(now=now))
    assert decision.reason == reason


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([HUGE_KB, SMALL_KB], None), ([HUGE_KB], None), ([SMALL_KB, HUGE_KB], PAGE_SIZE), ([], None)],
)
def test_first_cells_tell_the_size_of_pages(sizes: list[int], reason: str | None) -> None:
    """As in Nova, whatever the others have and however many there are."""
    current = GuestTopology([replace(a_guest().cells[0], pagesize=size) for size in sizes])
    flavor = a_flavor(4, 1024, extra_specs=HUGE_FLAVOR.extra_specs | {"hw:numa_nodes": "2"})
    asked = asks("live_migration_claim", flavor, an_instance(flavor=flavor, numa_topology=current))
    _, decision = decided(a_numa_node(host=a_host(2, pages=PAGES)), asked)
    assert decision.reason == reason


def test_live_migration_without_page_sizes_is_not_tested_for_them() -> None:
    assert granted(a_numa_node(host=HUGE_HOST), live(now=None, flavor=PINNED))
    without = a_node(resources=replace(host_resources(), numa_topology=None))
    assert granted(without, live(now=1048576))


def test_size_of_pages_is_the_last_reason() -> None:
    reason = refused(a_numa_node(host=HUGE_HOST), live(now=SMALL_KB, limits=TIGHT))
    assert reason == f"{SHORT}; {PAGE_SIZE}"


@pytest.mark.parametrize("method", ["instance_claim", "resize_claim", "rebuild_claim"])
def test_other_claims_may_change_the_size_of_pages(method: str) -> None:
    instance = an_instance(flavor=HUGE_FLAVOR, numa_topology=placed(a_guest(), {5: [7, 8]}, pagesize=4))
    granted(a_numa_node(host=HUGE_HOST), asks(method, HUGE_FLAVOR, instance))
