# SPDX-License-Identifier: Apache-2.0
"""The tests of a claim one by one: what they say is what decide says."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    INSTANCE,
    NODE,
    SETTINGS,
    a_claim,
    a_flavor,
    a_node,
    an_instance,
    decided,
    some_resources,
)
from tests.topologies import (
    DEDICATED,
    GPU,
    PAGES,
    WITH_ALIASES,
    WITH_GPU,
    a_device,
    a_host,
    a_numa_node,
    a_pinned_guest,
    holding,
)
from tracker_worker.domain.claims import NUMA_REFUSED, PCI_REFUSED
from tracker_worker.domain.commands import InstanceClaim
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.fit import ClaimTest, claim_tests
from tracker_worker.domain.flavors import Amounts, Flavor
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.settings import TrackerSettings

CAPACITY = replace(SETTINGS, capacity_check="capacity")


def examined(
    node: Node, flavor: Flavor, settings: TrackerSettings = SETTINGS, **limits: Any
) -> tuple[str | None, dict[str, list[ClaimTest]]]:
    """The reason of the decision on a claim, and the tests by rule."""
    command = InstanceClaim(
        node=NODE, instance=an_instance(flavor=flavor), limits=Limits(**limits) if limits else None
    )
    _, decision = decided(node, command, settings)
    assert (decision.outcome is Outcome.GRANTED) == (decision.reason is None)
    by_rule: dict[str, list[ClaimTest]] = {}
    for test in claim_tests(node, command, settings):
        by_rule.setdefault(test.rule, []).append(test)
    return decision.reason, by_rule


@pytest.mark.parametrize(
    ("settings", "limits"),
    [(SETTINGS, {}), (SETTINGS, {"memory_mb": 4096, "vcpu": 2}), (CAPACITY, {}), (CAPACITY, {"disk_gb": 10})],
)
@pytest.mark.parametrize("flavor", [a_flavor(), a_flavor(64, 1024, 5), a_flavor(1, 20000, 2000)])
@pytest.mark.parametrize("held", [[], [a_claim(uuid="other", flavor=a_flavor(4, 4096, 40))]])
def test_reasons_of_the_capacity_are_those_of_the_decision(
    settings: TrackerSettings, limits: dict[str, int], flavor: Flavor, held: list[Any]
) -> None:
    reason, tests = examined(a_node(*held), flavor, settings, **limits)
    (memory,), (disk,), (vcpu,) = tests["memory"], tests["disk"], tests["vcpu"]
    failed = [test.reason for test in (memory, disk, vcpu) if test.reason is not None]
    assert "; ".join(failed) == (reason or "")
    for test in (memory, disk, vcpu):
        assert test.passed is (None if test.free is None else test.reason is None)
    assert [test.free is None for test in (memory, disk, vcpu)] == [
        settings is SETTINGS and name not in limits for name in ("memory_mb", "disk_gb", "vcpu")
    ]


def test_claim_that_is_replaced_is_not_counted() -> None:
    node = a_node(a_claim(flavor=a_flavor(memory_mb=16000)))
    reason, tests = examined(node, a_flavor(memory_mb=15000), CAPACITY)
    assert (reason, tests["memory"][0].free) == (None, "15872 MB")


def test_each_guest_cell_is_tested_on_each_host_cell() -> None:
    taken = holding(a_claim(uuid="other"), a_pinned_guest({0: (2, 3, 4)}, memory=0))
    node = a_numa_node(taken, host=a_host(pages=PAGES))
    reason, tests = examined(node, a_flavor(extra_specs=DEDICATED))
    first, second = tests["numa"]
    assert (reason, first.passed, second.passed) == (None, False, True)
    assert first.subject == "guest cell 0 on cell 0"
    assert "dedicated CPUs" in str(first.reason)
    assert "1 dedicated CPUs" in str(first.free)
    reason, tests = examined(node, a_flavor(6, extra_specs=DEDICATED))
    assert reason == NUMA_REFUSED
    assert [test.passed for test in tests["numa"]] == [False, False]
    reason, tests = examined(node, a_flavor(extra_specs={"hw:mem_page_size": "1GB"}))
    assert reason == NUMA_REFUSED
    assert {test.reason for test in tests["numa"]} == {"not enough free pages of an allowed size"}


def test_each_request_for_devices_is_tested() -> None:
    flavor = a_flavor(extra_specs=WITH_GPU)
    gpu = a_device(**GPU)
    reason, tests = examined(a_numa_node(devices=[gpu]), flavor, WITH_ALIASES)
    assert (reason, tests["pci"]) == (None, [ClaimTest("pci", "gpu", "1 devices", "1 devices", True)])
    held = holding(a_claim(uuid="other"), devices=[gpu])
    reason, tests = examined(a_numa_node(held, devices=[gpu]), flavor, WITH_ALIASES)
    assert reason == PCI_REFUSED
    assert (tests["pci"][0].passed, tests["pci"][0].free) == (False, "0 devices")


def test_contradictory_flavor_has_a_decision_and_no_tests() -> None:
    reason, tests = examined(a_node(), a_flavor(extra_specs={"hw:cpu_policy": "strange"}))
    assert reason
    assert tests == {}
    assert INSTANCE not in reason


def test_amounts_of_large_hosts_have_all_their_digits() -> None:
    node = a_node(resources=some_resources(memory_mb=4_194_304), reserve=Amounts())
    (test,) = examined(node, a_flavor(memory_mb=1_048_576), CAPACITY)[1]["memory"]
    assert (test.requested, test.free) == ("1048576 MB", "4194304 MB")
