# SPDX-License-Identifier: Apache-2.0
"""Claims: Nova's tests in Nova's order and wording, and which claims are not tested at all."""

import pytest

from tests.builders import (
    INSTANCE,
    NODE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    an_instance,
    claims_of,
    decided,
    some_resources,
)
from tests.unit.domain.claiming import EVERY_CLAIM, NOTHING_PASSES, asks, boot
from tracker_worker.domain.decision import ClaimRefused
from tracker_worker.domain.flavors import Amounts, Flavor
from tracker_worker.domain.node import Node, NodeRemoved, Ratios, evolve
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.settings import TrackerSettings

CAPACITY = TrackerSettings(capacity_check="capacity")
NONE = TrackerSettings(capacity_check="none")


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("flavor", "limits", "reason"),
    [
        (
            a_flavor(1, 4096, 1),
            Limits(memory_mb=4096),
            "Free memory 3584.00 MB < requested 4096 MB",
        ),
        (a_flavor(1, 1, 11), Limits(disk_gb=10), "Free disk 10.00 GB < requested 11 GB"),
        (a_flavor(3, 1, 1), Limits(vcpu=2), "Free vcpu 2.00 VCPU < requested 3 VCPU"),
        (a_flavor(1, 1, 1), Limits(memory_mb=100), "Free memory -412.00 MB < requested 1 MB"),
        (
            a_flavor(3, 600, 11),
            Limits(memory_mb=1024, disk_gb=10, vcpu=2),
            "Free memory 512.00 MB < requested 600 MB; Free disk 10.00 GB < requested 11 GB; "
            "Free vcpu 2.00 VCPU < requested 3 VCPU",
        ),
        (
            a_flavor(3, 512, 11),
            Limits(memory_mb=1024, disk_gb=10, vcpu=2),
            "Free disk 10.00 GB < requested 11 GB; Free vcpu 2.00 VCPU < requested 3 VCPU",
        ),
    ],
)
def test_refusal_is_worded_as_nova_words_it(method: str, flavor: Flavor, limits: Limits, reason: str) -> None:
    before = a_node()
    node, decision = decided(before, asks(method, flavor, limits=limits))
    assert (decision.outcome, decision.reason) == ("refused", reason)
    assert decision.effects == (ClaimRefused(reason),)
    assert decision.claim is None
    assert (node.claims, node.used) == (before.claims, before.used)


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_claim_that_fills_its_limits_exactly_is_granted(method: str) -> None:
    limits = Limits(memory_mb=512 + 2048, disk_gb=20, vcpu=2)
    _, decision = decided(a_node(), asks(method, a_flavor(), limits=limits))
    assert (decision.outcome, decision.reason) == ("granted", None)


@pytest.mark.parametrize(
    ("flavor", "reason"),
    [
        (a_flavor(1, 1, 10, swap_mb=512), None),
        (a_flavor(1, 1, 10, swap_mb=513), "Free disk 10.50 GB < requested 11 GB"),
        (a_flavor(1, 1, 8, ephemeral_gb=2, swap_mb=512), None),
        (a_flavor(1, 1, 8, ephemeral_gb=3), "Free disk 10.50 GB < requested 11 GB"),
        (a_flavor(1, 1, 0, swap_mb=10753), "Free disk 10.50 GB < requested 11 GB"),
    ],
)
def test_disk_is_tested_in_mb_and_printed_in_gb_rounded_up(flavor: Flavor, reason: str | None) -> None:
    node = a_node(a_claim(uuid="other", flavor=a_flavor(1, 1, 9, swap_mb=512)))
    _, decision = decided(node, boot(flavor, limits=Limits(disk_gb=20)))
    assert decision.reason == reason


def test_limits_count_the_reserve_of_every_resource() -> None:
    node = a_node(reserve=Amounts(vcpus=2, memory_mb=1000, disk_mb=1536))
    limits = Limits(memory_mb=3000, disk_gb=20, vcpu=3)
    _, decision = decided(node, boot(a_flavor(2, 2001, 19), limits=limits))
    assert decision.reason == (
        "Free memory 2000.00 MB < requested 2001 MB; Free disk 18.50 GB < requested 19 GB; "
        "Free vcpu 1.00 VCPU < requested 2 VCPU"
    )


@pytest.mark.parametrize("settings", [TrackerSettings(), NONE], ids=["limits", "none"])
def test_without_limits_anything_is_granted_unless_capacity_is_checked(
    settings: TrackerSettings,
) -> None:
    node, decision = decided(a_node(), boot(a_flavor(1000, 10**6, 10**4)), settings)
    assert decision.outcome == "granted"
    assert node.used == Amounts(1000, 512 + 10**6, 10**4 * 1024)


def test_capacity_check_none_does_not_read_limits() -> None:
    _, decision = decided(a_node(), boot(a_flavor(), limits=NOTHING_PASSES), NONE)
    assert decision.outcome == "granted"


@pytest.mark.parametrize(
    ("flavor", "reason"),
    [
        (a_flavor(8, 14872, 80), None),
        (a_flavor(9, 1, 1), "Free vcpu 8.00 VCPU < requested 9 VCPU"),
        (a_flavor(1, 14873, 1), "Free memory 14872.00 MB < requested 14873 MB"),
        (a_flavor(1, 1, 80, swap_mb=1), "Free disk 80.00 GB < requested 81 GB"),
    ],
)
def test_capacity_is_what_placement_computes(flavor: Flavor, reason: str | None) -> None:
    """Claims + requested <= (total - reserved) * ratio: (8-2)*2 vcpus, 15872 MB, (100-10)*1.0 GB."""
    node = a_node(
        a_claim(uuid="other", flavor=a_flavor(4, 1000, 10)),
        reserve=Amounts(vcpus=2, memory_mb=512, disk_mb=10240),
        ratios=Ratios(2.0, 1.0, 1.0),
    )
    _, decision = decided(node, boot(flavor), CAPACITY)
    assert decision.reason == reason


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("flavor", "reason"),
    [
        (a_flavor(9, 1, 1), "Total vcpu 8.00 VCPU < requested 9 VCPU"),
        (a_flavor(1, 16385, 1), "Total memory 16384.00 MB < requested 16385 MB"),
        (a_flavor(1, 1, 101), "Total disk 100.00 GB < requested 101 GB"),
        (a_flavor(8, 16384, 100), None),
    ],
)
def test_one_guest_never_exceeds_the_total_whatever_the_ratio(
    method: str, flavor: Flavor, reason: str | None
) -> None:
    """Placement's max_unit."""
    _, decision = decided(a_node(ratios=Ratios(16.0, 1.5, 2.0)), asks(method, flavor), CAPACITY)
    assert decision.reason == reason


NOTHING = {"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0"}


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_capacity_is_tested_for_what_the_extra_specs_ask_for_and_the_flavor_is_counted(method: str) -> None:
    """Bug 1796920: a node of Ironic reports zeros, and its flavor asks for a custom resource alone."""
    zeros = a_node(resources=some_resources(vcpus=0, memory_mb=0, local_gb=0))
    flavor = a_flavor(56, 262_144, 1800, extra_specs={"resources:CUSTOM_GOLD": "1", **NOTHING})
    node, decision = decided(zeros, asks(method, flavor), CAPACITY)
    assert (decision.outcome, decision.reason) == ("granted", None)
    assert node.used == Amounts(56, 512 + 262_144, 1800 * 1024)


@pytest.mark.parametrize(
    ("extra_specs", "reason"),
    [
        ({"resources:VCPU": "8"}, None),
        ({"resources:VCPU": "9"}, "Total vcpu 8.00 VCPU < requested 9 VCPU"),
        ({"resources:MEMORY_MB": "20000"}, "Free memory 15872.00 MB < requested 20000 MB"),
        ({"resources:DISK_GB": "200"}, "Free disk 100.00 GB < requested 200 GB"),
    ],
)
def test_amounts_of_the_extra_specs_replace_those_of_the_flavor_in_the_capacity_test(
    extra_specs: dict[str, str], reason: str | None
) -> None:
    _, decision = decided(a_node(), boot(a_flavor(2, 2, 2, extra_specs=extra_specs)), CAPACITY)
    assert decision.reason == reason
    _, decision = decided(a_node(), boot(a_flavor(2, 2, 2, extra_specs=extra_specs)))
    assert decision.outcome == "granted"


def test_limits_are_tested_for_what_is_counted_whatever_the_extra_specs() -> None:
    flavor = a_flavor(3, 2, 2, extra_specs=NOTHING)
    _, decision = decided(a_node(), boot(flavor, limits=Limits(vcpu=2)), CAPACITY)
    assert decision.reason == "Free vcpu 2.00 VCPU < requested 3 VCPU"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(vcpu=1000, disk_gb=1000, memory_mb=100_000), None),
        (Limits(vcpu=10), "Free vcpu 10.00 VCPU < requested 40 VCPU"),
        (Limits(memory_mb=30_000), "Free vcpu 32.00 VCPU < requested 40 VCPU"),
    ],
)
def test_a_limit_stands_in_for_the_capacity(limits: Limits, reason: str | None) -> None:
    _, decision = decided(a_node(), boot(a_flavor(40, 1000, 10), limits=limits), CAPACITY)
    assert decision.reason == reason


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_replacement_is_tested_without_the_claim_that_it_replaces(method: str) -> None:
    role, label = ("instance", None) if method == "instance_claim" else ("incoming", OTHER_MOVE)
    node = a_node(a_claim(role, label, a_flavor(4, 4096, 40)))
    limits = Limits(memory_mb=512 + 5000, disk_gb=50, vcpu=5)
    replaced, decision = decided(node, asks(method, a_flavor(5, 5000, 50), limits=limits))
    assert decision.outcome == "granted"
    assert claims_of(replaced) == {role: decision.claim}
    assert replaced.used == Amounts(5, 512 + 5000, 50 * 1024)


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_refused_replacement_leaves_the_old_claim(method: str) -> None:
    role, label = ("instance", None) if method == "instance_claim" else ("incoming", OTHER_MOVE)
    old = a_claim(role, label, a_flavor(4, 4096, 40))
    limits = Limits(vcpu=4)
    node, decision = decided(a_node(old), asks(method, a_flavor(5), limits=limits))
    assert decision.reason == "Free vcpu 4.00 VCPU < requested 5 VCPU"
    assert claims_of(node) == {role: old}


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("available", [True, False])
def test_same_claim_comes_back_untested(method: str, available: bool) -> None:
    node, first = decided(a_node(), asks(method, a_flavor()))
    node = a_node(*claims_of(node).values(), resources=some_resources(available=available))
    again, second = decided(node, asks(method, a_flavor(), limits=NOTHING_PASSES))
    assert (second.outcome, second.claim, second.changes) == ("granted", first.claim, ())
    assert again.claims == node.claims


@pytest.mark.parametrize(
    "flavor",
    [
        a_flavor(3),
        a_flavor(memory_mb=2049),
        a_flavor(root_gb=21),
        a_flavor(ephemeral_gb=1),
        a_flavor(swap_mb=1),
    ],
)
def test_claim_of_other_numbers_is_another_claim(flavor: Flavor) -> None:
    _, decision = decided(a_node(a_claim()), boot(flavor, limits=NOTHING_PASSES))
    assert decision.outcome == "refused"


def test_flavor_of_another_name_is_the_same_claim() -> None:
    named = a_flavor(name="m1.small", id="7", extra_specs={"trait:CUSTOM_GOLD": "required"})
    _, decision = decided(a_node(a_claim()), boot(named, limits=NOTHING_PASSES))
    assert (decision.outcome, decision.claim) == ("granted", a_claim())


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("available", [True, False])
def test_decided_claim_is_not_tested(method: str, available: bool) -> None:
    node = a_node(resources=some_resources(available=available))
    huge = a_flavor(1000, 10**6, 10**4)
    asked = asks(method, huge, limits=NOTHING_PASSES, decided=True)
    node, decision = decided(node, asked, CAPACITY)
    assert decision.outcome == "granted"
    assert node.used == Amounts(1000, 512 + 10**6, 10**4 * 1024)


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("decided_elsewhere", [True, False])
@pytest.mark.parametrize("node", [Node(NODE), evolve(a_node(), [NodeRemoved()])], ids=["unknown", "removed"])
def test_node_that_is_not_tracked_refuses(method: str, decided_elsewhere: bool, node: Node) -> None:
    _, decision = decided(node, asks(method, a_flavor(), decided=decided_elsewhere))
    assert (decision.outcome, decision.changes) == ("refused", ())
    assert NODE in (decision.reason or "")


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("settings", [TrackerSettings(), CAPACITY, NONE])
def test_unavailable_node_refuses_new_claims(method: str, settings: TrackerSettings) -> None:
    before = a_node(a_claim(uuid="other"), resources=some_resources(available=False))
    node, decision = decided(before, asks(method, a_flavor()), settings)
    assert decision.outcome == "refused"
    assert NODE in (decision.reason or "")
    assert node.claims == before.claims


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_volume_backed_instance_has_no_root_disk_here(method: str) -> None:
    """Bugs 1469179 and 1796737: for a boot and for every move."""
    flavor = a_flavor(1, 1, 50, ephemeral_gb=2, swap_mb=3)
    asked = asks(method, flavor, an_instance(flavor=flavor, volume_backed=True))
    node, decision = decided(a_node(), asked)
    assert decision.outcome == "granted"
    assert node.used.disk_mb == 2 * 1024 + 3


def test_claim_that_became_volume_backed_is_replaced() -> None:
    node, _ = decided(a_node(a_claim()), boot(a_flavor(), volume_backed=True))
    assert claims_of(node)["instance"].volume_backed
    assert node.used.disk_mb == 0


def test_resize_is_sized_by_its_new_flavor() -> None:
    asked = asks("resize_claim", a_flavor(4, 4096, 40), an_instance())
    node, decision = decided(a_node(a_claim()), asked)
    assert decision.claim == a_claim("incoming", a_migration().uuid, a_flavor(4, 4096, 40))
    assert node.used == Amounts(6, 512 + 6144, 60 * 1024)


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_claim_takes_who_and_what_the_instance_is(method: str) -> None:
    instance = an_instance(vm_state="building", task_state="spawning", project_id="p9", os_type="linux")
    node, decision = decided(a_node(), asks(method, a_flavor(), instance))
    (claim,) = claims_of(node).values()
    assert claim == decision.claim
    assert (claim.instance_uuid, claim.project_id, claim.os_type) == (INSTANCE, "p9", "linux")
    assert (claim.vm_state, claim.task_state) == ("building", "spawning")
