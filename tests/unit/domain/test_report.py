# SPDX-License-Identifier: Apache-2.0
"""The hypervisor's report: what it changes, which reserves and ratios hold, whose it is."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    NODE,
    NODE_UUID,
    a_claim,
    a_node,
    a_report,
    after,
    an_instance,
    claims_of,
    command,
    decided,
    some_resources,
)
from tracker_worker.domain.child_providers import ChildProvider
from tracker_worker.domain.decision import Decision, NodeCreated, ReportRefused, ReserveExceeded
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Node, Ratios, ServiceStatusSet
from tracker_worker.domain.objects import HostCell, HostTopology, PageSize
from tracker_worker.domain.report import Owner
from tracker_worker.domain.settings import TrackerSettings

OTHER_UUID = "22222222-2222-4222-8222-222222222222"
THIRD_UUID = "33333333-3333-4333-8333-333333333333"
OWN, OTHER = Owner(NODE, "host-1"), Owner("node-2", "host-2")
SETTINGS = TrackerSettings(
    reserved_host_memory_mb=100,
    reserved_host_disk_mb=200,
    reserved_host_cpus=3,
    cpu_allocation_ratio=8.0,
    ram_allocation_ratio=1.5,
    disk_allocation_ratio=2.0,
)


def reported(node: Node, owners: dict[str, Owner] | None = None, **more: Any) -> tuple[Node, Decision]:
    """What a report with these fields makes of a node."""
    return decided(node, a_report(resources=some_resources(**more)), uuid_owners=owners)


def test_first_report_creates_the_node() -> None:
    node, decision = reported(Node(NODE))
    assert (decision.outcome, decision.effects) == ("applied", (NodeCreated(),))
    assert node.tracked
    assert node.used == Amounts(0, 512, 0)
    assert node.ratios == Ratios(4.0, 1.0, 1.0)
    assert node.sequence == 1


def test_same_report_again_is_ignored() -> None:
    node, _ = reported(Node(NODE))
    again, decision = reported(node)
    assert (decision.outcome, decision.changes, decision.effects) == ("ignored", (), ())
    assert again == replace(node, sequence=2)


@pytest.mark.parametrize(
    "more",
    [
        {"vcpus_used": 7},
        {"memory_mb_used": 1000.5},
        {"local_gb_used": -3},
        {"stats": {"uptime": "2 days"}},
        {"stats": {"uptime": None}, "vcpus_used": 1, "memory_mb_used": 1, "local_gb_used": 1},
    ],
)
def test_uptime_and_the_hypervisors_own_usage_alone_are_no_change(more: dict[str, Any]) -> None:
    node, decision = reported(a_node(), **more)
    assert (decision.outcome, decision.changes) == ("ignored", ())
    assert node.used == a_node().used, "what the hypervisor counts itself is never added up"


@pytest.mark.parametrize(
    "more",
    [
        {"vcpus": 16},
        {"memory_mb": 4096},
        {"local_gb": 0},
        {"disk_available_least": -5},
        {"hypervisor_type": "ironic"},
        {"hypervisor_version": 7},
        {"cpu_info": {"arch": "x86_64"}},
        {"host_ip": "192.0.2.1"},
        {"stats": {"uptime": "2 days", "cpu_arch": "x86_64"}},
        {"traits": ["HW_CPU_X86_AVX2"]},
        {"inventories": {"VCPU": {"total": 8}}},
        {"providers": [ChildProvider("gpu", inventories={"VGPU": {"total": 8}}, traits=[])]},
        {"numa_topology": HostTopology([HostCell(id=0, cpuset=[0], pcpuset=[], memory=1)])},
        {"cpu_allocation_ratio": 2.0},
        {"reserved_host_cpus": 1},
        {"available": False},
        {"host": "host-2"},
    ],
)
def test_anything_else_that_is_new_is_a_change(more: dict[str, Any]) -> None:
    before = a_node(a_claim())
    node, decision = reported(before, **more)
    assert (decision.outcome, decision.effects) == ("applied", ())
    assert node.claims == before.claims
    _, again = reported(node, **more)
    assert again.outcome == "ignored"


@pytest.mark.parametrize(
    ("more", "reserve"),
    [
        ({}, Amounts(3, 100, 200)),
        ({"reserved_host_memory_mb": 0}, Amounts(3, 0, 200)),
        ({"reserved_host_disk_mb": 7, "reserved_host_cpus": 0}, Amounts(0, 100, 7)),
    ],
)
def test_reserves_absent_from_the_report_are_the_workers(more: dict[str, Any], reserve: Amounts) -> None:
    node, _ = decided(Node(NODE), a_report(resources=some_resources(**more)), SETTINGS)
    assert node.reserve == node.used == reserve


@pytest.mark.parametrize(
    ("more", "ratios"),
    [
        ({}, Ratios(8.0, 1.5, 2.0)),
        ({"cpu_allocation_ratio": 0.0, "ram_allocation_ratio": 0.0}, Ratios(8.0, 1.5, 2.0)),
        ({"cpu_allocation_ratio": 16.0}, Ratios(16.0, 1.5, 2.0)),
        ({"ram_allocation_ratio": 0.5, "disk_allocation_ratio": 1.0}, Ratios(8.0, 0.5, 1.0)),
    ],
)
def test_ratios_absent_from_the_report_are_the_workers(more: dict[str, Any], ratios: Ratios) -> None:
    node, _ = decided(Node(NODE), a_report(resources=some_resources(**more)), SETTINGS)
    assert node.ratios == ratios


def test_changed_settings_hold_from_the_next_report_on() -> None:
    node, decision = decided(a_node(a_claim()), a_report(), SETTINGS)
    assert decision.outcome == "applied"
    assert node.used == Amounts(3 + 2, 100 + 2048, 200 + 20 * 1024)
    assert node.ratios == Ratios(8.0, 1.5, 2.0)


def test_unavailable_node_keeps_its_totals_and_claims() -> None:
    before = a_node(a_claim())
    node, decision = reported(before, available=False, vcpus=0, memory_mb=0, local_gb=0)
    assert decision.outcome == "applied"
    assert node.resources == some_resources(available=False)
    assert (node.claims, node.used, node.ratios) == (before.claims, before.used, before.ratios)
    again, decision = reported(node, available=False, vcpus=1)
    assert (decision.outcome, again.resources) == ("ignored", node.resources)
    back, decision = reported(again)
    assert (decision.outcome, back.resources) == ("applied", some_resources())


def test_first_report_may_be_of_an_unavailable_node() -> None:
    node, decision = reported(Node(NODE), available=False)
    assert (decision.effects, node.tracked) == ((NodeCreated(),), True)


@pytest.mark.parametrize("instances", [None, []], ids=["report", "audit"])
def test_startup_forgets_failed_builds(instances: list[Any] | None) -> None:
    node, decision = decided(a_node(failed_builds=3), a_report(instances, startup=True))
    assert (decision.outcome, node.failed_builds) == ("applied", 0)
    _, again = decided(node, a_report(instances, startup=True))
    assert again.outcome == "ignored"


def test_report_that_is_no_startup_keeps_failed_builds() -> None:
    node, decision = decided(a_node(failed_builds=3), a_report([]))
    assert (decision.outcome, node.failed_builds) == ("ignored", 3)


def test_rebalance_to_another_host_keeps_everything_else() -> None:
    """Bug 1714248: an Ironic node that another service takes over keeps its uuid and its claims."""
    before = a_node(a_claim(), failed_builds=2)
    node, decision = reported(before, owners={NODE_UUID: OWN}, host="host-2")
    assert (decision.outcome, decision.effects) == ("applied", ())
    assert node == replace(before, resources=some_resources(host="host-2"), sequence=1)


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("host", "sent", "after"),
    [
        ("host-1", None, None),
        ("host-1", True, True),
        ("host-1", False, False),
        ("host-2", None, False),
        ("host-2", True, True),
        ("host-2", False, False),
    ],
)
def test_disabled_is_what_the_report_says_and_not_kept_of_another_hosts_service(
    available: bool, before: bool, host: str, sent: bool | None, after: bool | None
) -> None:
    resources = some_resources(host=host, available=available)
    said: dict[str, Any] = {} if sent is None else {"disabled": sent}
    asked = a_report(resources=resources, **said)
    node, decision = decided(a_node(disabled=before), asked)
    assert node.disabled == (before if after is None else after)
    assert len([c for c in decision.changes if isinstance(c, ServiceStatusSet)]) == (node.disabled != before)
    _, again = decided(node, asked)
    assert (again.outcome, again.changes) == ("ignored", ())


def test_first_report_may_be_of_a_disabled_service() -> None:
    node, _ = decided(Node(NODE), a_report(disabled=True))
    assert node.disabled


def test_refused_report_does_not_say_whether_the_service_is_disabled() -> None:
    resources = some_resources(uuid=OTHER_UUID, host="host-2")
    node, _ = decided(a_node(disabled=True), a_report(resources=resources, disabled=False))
    assert node.disabled


BOTH_WAYS = [
    pytest.param(a_node(a_claim()), OTHER_UUID, {NODE_UUID: OWN}, id="known name, other uuid"),
    pytest.param(Node(NODE), OTHER_UUID, {OTHER_UUID: OTHER}, id="known uuid, new name"),
    pytest.param(
        a_node(a_claim()),
        OTHER_UUID,
        {NODE_UUID: OWN, OTHER_UUID: OTHER},
        id="both are known, of two nodes",
    ),
]


@pytest.mark.parametrize(("before", "uuid", "owners"), BOTH_WAYS)
def test_report_of_another_node_is_refused(before: Node, uuid: str, owners: dict[str, Owner]) -> None:
    asked = a_report([an_instance("z")], resources=some_resources(uuid=uuid, vcpus=99))
    node, decision = decided(before, asked, uuid_owners=owners)
    assert decision.outcome == "refused"
    assert (decision.reason or "").startswith("node_conflict")
    assert decision.changes == ()
    assert node == replace(before, sequence=before.sequence + 1, conflicts=(uuid,))


def test_conflict_of_a_name_names_both_uuids_and_hosts_before_it_names_a_remedy() -> None:
    _, decision = reported(a_node(), uuid=OTHER_UUID, host="host-9")
    reason = decision.reason or ""
    assert f"host host-9 reports node {NODE} with uuid {OTHER_UUID}" in reason
    assert f"host host-1 has reported it with uuid {NODE_UUID}" in reason
    assert "compute_id" in reason[: reason.index(f"'tracker-worker-manage node remove {NODE}'")]
    assert "--force" not in reason


def test_conflict_of_a_uuid_names_both_nodes_and_hosts_before_it_names_a_remedy() -> None:
    _, decision = reported(Node(NODE), {OTHER_UUID: OTHER}, uuid=OTHER_UUID, host="host-9")
    reason = decision.reason or ""
    assert f"host host-9 reports node {NODE} with uuid {OTHER_UUID}" in reason
    assert "host host-2 has reported node node-2 with that uuid" in reason
    assert "compute_id" in reason[: reason.index("'tracker-worker-manage node remove node-2'")]
    assert "--force" not in reason


@pytest.mark.parametrize(("before", "uuid", "owners"), BOTH_WAYS)
def test_conflict_is_raised_once_a_uuid(before: Node, uuid: str, owners: dict[str, Owner]) -> None:
    node, first = reported(before, owners, uuid=uuid)
    (raised,) = first.effects
    assert isinstance(raised, ReportRefused)
    assert raised.uuid == uuid
    node, second = reported(node, owners, uuid=uuid)
    assert (second.outcome, second.effects) == ("refused", ())
    node, third = reported(node, owners | {THIRD_UUID: Owner("node-3", "host-3")}, uuid=THIRD_UUID)
    assert [getattr(effect, "uuid", None) for effect in third.effects] == [THIRD_UUID]


def test_conflict_is_raised_once_though_the_right_node_goes_on_reporting() -> None:
    """Two hosts with one hostname report in turn, every minute: operators hear of it once."""
    owners = {NODE_UUID: OWN}
    node, _ = reported(a_node(), owners, uuid=OTHER_UUID)
    node, _ = reported(node, owners)
    _, again = reported(node, owners, uuid=OTHER_UUID)
    assert (again.outcome, again.effects) == ("refused", ())


def test_conflict_of_one_uuid_is_raised_once_though_another_came_meanwhile() -> None:
    node, _ = reported(a_node(), uuid=OTHER_UUID)
    node, _ = reported(node, uuid=THIRD_UUID)
    _, again = reported(node, uuid=OTHER_UUID)
    assert (again.outcome, again.effects) == ("refused", ())


def test_removing_the_known_node_resolves_a_name_with_another_uuid() -> None:
    node, _ = reported(a_node(a_claim()), uuid=OTHER_UUID)
    node = after(node, command("remove_node", force=True))
    assert node.conflicts == ()
    node, decision = reported(node, uuid=OTHER_UUID)
    assert decision.effects == (NodeCreated(),)
    assert node.resources is not None
    assert (node.resources.uuid, claims_of(node)) == (OTHER_UUID, {})


def test_removing_the_other_node_resolves_a_uuid_with_another_name() -> None:
    node, _ = reported(Node(NODE), {OTHER_UUID: OTHER}, uuid=OTHER_UUID)
    node, decision = reported(node, {}, uuid=OTHER_UUID)
    assert (decision.outcome, decision.effects) == ("applied", (NodeCreated(),))
    assert node.conflicts == ()


def test_startup_of_the_stored_node_resolves_its_conflicts_and_a_repeated_one_is_raised_again() -> None:
    """Once the wrong host was corrected, a restart of the right one leaves nothing to be looked at."""
    node, _ = reported(a_node(a_claim()), uuid=OTHER_UUID)
    node, _ = reported(node)
    assert node.conflicts == (OTHER_UUID,)
    node, _ = decided(node, a_report(startup=True))
    assert (node.conflicts, len(node.claims)) == ((), 1)
    node, again = reported(node, uuid=OTHER_UUID)
    assert (again.outcome, len(again.effects), node.conflicts) == ("refused", 1, (OTHER_UUID,))


def test_startup_of_the_wrong_host_resolves_nothing() -> None:
    node, _ = reported(a_node(), uuid=OTHER_UUID)
    node, decision = decided(node, a_report(resources=some_resources(uuid=OTHER_UUID), startup=True))
    assert (decision.outcome, node.conflicts) == ("refused", (OTHER_UUID,))


SMALL_CELLS = HostTopology([HostCell(1, [0], [], 4096, mempages=[PageSize(2048, 64, 65), PageSize(4, 9)])])


@pytest.mark.parametrize(
    ("report", "excess"),
    [
        ({"vcpus": 2, "reserved_host_cpus": 3}, "reserved_host_cpus 3 > vcpus 2"),
        ({"memory_mb": 511}, "reserved_host_memory_mb 512 > memory_mb 511"),
        (
            {"local_gb": 1, "reserved_host_disk_mb": 1025},
            "reserved_host_disk_mb 1025 > local_gb * 1024 1024",
        ),
        ({"numa_topology": SMALL_CELLS}, "reserved_huge_pages node:1,size:2048 65 > total 64"),
        (
            {"vcpus": 1, "reserved_host_cpus": 9, "memory_mb": 1},
            "reserved_host_cpus 9 > vcpus 1, reserved_host_memory_mb 512 > memory_mb 1",
        ),
    ],
    ids=["cpus", "memory of the option", "disk", "pages", "two"],
)
def test_reserve_above_the_size_is_applied_and_raised(report: dict[str, Any], excess: str) -> None:
    node, decision = reported(a_node(), **report)
    assert decision.outcome == "applied"
    assert decision.effects == (ReserveExceeded(f"the reserve exceeds the node: {excess}"),)
    assert node.resources is not None and node.resources.vcpus == report.get("vcpus", 8)


@pytest.mark.parametrize(
    "report",
    [
        {"memory_mb": 512},
        {"vcpus": 0, "memory_mb": 0, "local_gb": 0, "reserved_host_cpus": 1, "reserved_host_disk_mb": 1},
        {"numa_topology": HostTopology([HostCell(0, [], [], 1, mempages=[PageSize(2048, 0, 1)])])},
    ],
    ids=["equal", "sizes of 0", "no pages"],
)
def test_reserve_that_fits_or_has_no_size_is_not_raised(report: dict[str, Any]) -> None:
    _, decision = reported(a_node(), **report)
    assert (decision.outcome, decision.effects) == ("applied", ())


def test_excessive_reserve_is_raised_once_until_it_fits_again() -> None:
    raised = []
    node = a_node()
    for vcpus, memory_mb in ((2, 8192), (2, 8192), (1, 8192), (1, 100), (8, 100), (1, 100), (1, 8192)):
        node, decision = reported(node, vcpus=vcpus, memory_mb=memory_mb, reserved_host_cpus=3)
        raised.append(len(decision.effects))
    assert raised == [1, 0, 0, 1, 0, 1, 0]


def test_unavailable_node_does_not_raise_its_reserve_again() -> None:
    node, _ = reported(a_node(), memory_mb=100)
    _, decision = reported(node, memory_mb=100, available=False)
    assert (decision.outcome, decision.effects) == ("applied", ())


def test_first_report_with_an_excessive_reserve_creates_the_node_too() -> None:
    _, decision = reported(Node(NODE), memory_mb=100)
    assert [type(effect) for effect in decision.effects] == [ReserveExceeded, NodeCreated]
