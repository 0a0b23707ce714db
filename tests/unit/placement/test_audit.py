# SPDX-License-Identifier: Apache-2.0
"""The audit: claims of nodes against allocations, in the states that a boot, a move or a fault leaves."""

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from tests.builders import BYSTANDER, INSTANCE, MOVE, NODE, OTHER_MOVE, a_claim, a_flavor, a_node
from tracker_worker.domain.claim_places import ClaimPlace
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.placement.audit import Finding, FindingKind, Held, compare, questions
from tracker_worker.placement.sizes import allocation_of

OTHER = "node-2"
PROVIDER = "provider"
SMALL = allocation_of(a_claim())
BIG_FLAVOR = a_flavor(4, 4096, 40)
BIG = {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 40}


def held(consumers: Mapping[str, Mapping[str, int]] | None = None) -> Held:
    return Held((PROVIDER,), consumers or {})


def audited(node: Node, allocations: Mapping[str, Mapping[str, int]], *others: Node) -> list[Finding]:
    """The findings of a node; the claims of all nodes are looked up as the database does it."""
    return found(node, held(allocations), *others)


def found(node: Node, what: Held, *others: Node) -> list[Finding]:
    asked = questions(node, what)
    places = [
        ClaimPlace(each.name, claim.instance_uuid, claim.role, claim.migration_uuid, claim.task_state)
        for each in (node, *others)
        for claim in each.held()
        if claim.instance_uuid in asked or claim.migration_uuid in asked
    ]
    return compare(node, what, places)


def kinds(findings: list[Finding]) -> dict[str | None, str]:
    return {finding.consumer: finding.kind.value for finding in findings}


def other(*claims: Claim) -> Node:
    return a_node(*claims, name=OTHER)


def test_allocation_of_a_claim_is_no_finding() -> None:
    assert audited(a_node(a_claim()), {INSTANCE: SMALL}) == []


def test_explained_instances_are_not_looked_up() -> None:
    node = a_node(a_claim(), a_claim("outgoing", uuid=BYSTANDER))
    assert questions(node, held({INSTANCE: SMALL, MOVE: SMALL})) == {BYSTANDER, MOVE}


def test_claim_without_an_allocation_is_missing() -> None:
    (finding,) = audited(a_node(a_claim()), {})
    assert finding == Finding(NODE, FindingKind.MISSING, INSTANCE, INSTANCE, a_claim().role, SMALL)


def test_allocation_of_another_size_is_found() -> None:
    (finding,) = audited(a_node(a_claim()), {INSTANCE: BIG})
    assert (finding.kind, finding.ledger, finding.placement) == (FindingKind.SIZE, SMALL, BIG)


def test_disk_of_shared_storage_is_not_compared() -> None:
    without = {name: amount for name, amount in SMALL.items() if name != "DISK_GB"}
    assert kinds(audited(a_node(a_claim()), {INSTANCE: without})) == {INSTANCE: "size"}
    shared = Held((PROVIDER,), {INSTANCE: without}, ("VCPU", "PCPU", "MEMORY_MB"))
    assert found(a_node(a_claim()), shared) == []


def test_allocation_that_no_node_claims_is_orphaned() -> None:
    (finding,) = audited(a_node(), {INSTANCE: SMALL}, other(a_claim(uuid=BYSTANDER)))
    assert finding == Finding(NODE, FindingKind.ORPHANED, INSTANCE, placement=SMALL)


def test_all_allocations_of_a_removed_node_are_found() -> None:
    removed = Node(NODE, sequence=4)
    findings = audited(removed, {INSTANCE: SMALL, BYSTANDER: SMALL}, other(a_claim()))
    assert kinds(findings) == {INSTANCE: "removed_node", BYSTANDER: "removed_node"}
    assert {finding.consumer: finding.nodes for finding in findings} == {INSTANCE: (OTHER,), BYSTANDER: ()}


RESIZE: list[tuple[str, list[Claim], list[Claim], dict[str, dict[str, int]], dict[str, dict[str, int]]]] = [
    (
        "scheduled, not claimed yet",
        [a_claim(task_state="resize_prep")],
        [],
        {MOVE: SMALL},
        {INSTANCE: BIG},
    ),
    (
        "claimed",
        [a_claim()],
        [a_claim("incoming", MOVE, BIG_FLAVOR)],
        {MOVE: SMALL},
        {INSTANCE: BIG},
    ),
    (
        "handed over",
        [a_claim("outgoing")],
        [a_claim("incoming", MOVE, BIG_FLAVOR)],
        {MOVE: SMALL},
        {INSTANCE: BIG},
    ),
    (
        "landed",
        [a_claim("outgoing", OTHER_MOVE)],
        [a_claim("instance", MOVE, BIG_FLAVOR)],
        {MOVE: SMALL},
        {INSTANCE: BIG},
    ),
    (
        "confirmed",
        [],
        [a_claim("instance", MOVE, BIG_FLAVOR)],
        {},
        {INSTANCE: BIG},
    ),
    (
        "reverting, dropped at the destination",
        [a_claim("outgoing", task_state="resize_reverting")],
        [],
        {MOVE: SMALL},
        {},
    ),
    (
        "reverted",
        [a_claim("instance")],
        [],
        {INSTANCE: SMALL},
        {},
    ),
    (
        "evacuating: the instance holds both",
        [a_claim()],
        [a_claim("incoming", MOVE)],
        {INSTANCE: SMALL},
        {INSTANCE: SMALL},
    ),
]


@pytest.mark.parametrize(
    ("source", "destination", "at_source", "at_destination"),
    [each[1:] for each in RESIZE],
    ids=[each[0] for each in RESIZE],
)
def test_move_between_nodes_is_no_finding_at_any_step(
    source: list[Claim],
    destination: list[Claim],
    at_source: dict[str, dict[str, int]],
    at_destination: dict[str, dict[str, int]],
) -> None:
    here, there = a_node(*source), other(*destination)
    assert audited(here, at_source, there) == []
    assert audited(there, at_destination, here) == []


@pytest.mark.parametrize(
    "claims",
    [
        (a_claim(), a_claim("incoming", MOVE, BIG_FLAVOR)),
        (a_claim("outgoing"), a_claim("instance", MOVE, BIG_FLAVOR)),
        (a_claim("outgoing"), a_claim("incoming", MOVE, BIG_FLAVOR)),
    ],
    ids=["claimed", "landed", "handed over"],
)
def test_move_within_a_node_is_no_finding(claims: tuple[Claim, ...]) -> None:
    assert audited(a_node(*claims), {INSTANCE: BIG, MOVE: SMALL}) == []
    assert kinds(audited(a_node(*claims), {INSTANCE: BIG})) == {MOVE: "missing"}


def test_both_ends_of_a_confirmed_move_are_double() -> None:
    there = other(a_claim("instance", MOVE, BIG_FLAVOR))
    (finding,) = audited(a_node(), {MOVE: SMALL}, there)
    assert finding == Finding(NODE, FindingKind.DOUBLE, MOVE, INSTANCE, placement=SMALL, nodes=(OTHER,))
    (finding,) = audited(a_node(), {INSTANCE: SMALL}, there)
    assert (finding.kind, finding.consumer, finding.nodes) == (FindingKind.DOUBLE, INSTANCE, (OTHER,))


def test_both_ends_of_a_confirmed_move_within_a_node_are_double() -> None:
    node = a_node(a_claim("instance", MOVE, BIG_FLAVOR))
    (finding,) = audited(node, {INSTANCE: BIG, MOVE: SMALL})
    assert (finding.kind, finding.consumer, finding.nodes) == (FindingKind.DOUBLE, MOVE, (NODE,))


def test_landed_instance_that_still_holds_its_source_is_double() -> None:
    here, there = a_node(a_claim("outgoing")), other(a_claim("instance", MOVE))
    assert kinds(audited(here, {INSTANCE: SMALL}, there)) == {MOVE: "missing", INSTANCE: "double"}


def test_allocation_for_a_move_whose_claim_is_on_its_way_is_no_finding() -> None:
    leaving = other(a_claim(task_state="migrating"))
    assert audited(a_node(), {INSTANCE: SMALL}, leaving) == []
    assert audited(a_node(), {INSTANCE: SMALL}, other(a_claim("outgoing"))) == []
    assert audited(a_node(), {MOVE: SMALL}, other(a_claim("incoming", MOVE))) == []


def test_devices_alone_are_no_allocation() -> None:
    devices = a_claim("incoming", flavor=a_flavor(0, 0, 0))
    assert devices.devices_only
    assert audited(a_node(devices), {}) == []
    assert audited(a_node(devices), {INSTANCE: SMALL}) == []
    assert audited(a_node(a_claim(), devices), {INSTANCE: SMALL}) == []


def test_unknown_migration_is_matched_by_its_size_only() -> None:
    leaving = a_node(a_claim("outgoing"))
    assert audited(leaving, {MOVE: SMALL}) == []
    assert kinds(audited(leaving, {MOVE: BIG})) == {INSTANCE: "missing", MOVE: "orphaned"}
    staying = a_node(a_claim())
    assert kinds(audited(staying, {MOVE: SMALL})) == {INSTANCE: "missing", MOVE: "orphaned"}


def test_allocation_is_matched_once() -> None:
    node = a_node(a_claim("outgoing"), a_claim("outgoing", uuid=BYSTANDER))
    assert len(audited(node, {MOVE: SMALL})) == 1
    assert audited(node, {MOVE: SMALL, OTHER_MOVE: SMALL}) == []


def test_findings_do_not_depend_on_the_order_of_allocations() -> None:
    node = a_node(a_claim("outgoing"), a_claim(uuid=BYSTANDER))
    mess = {MOVE: BIG, "c": SMALL, "b": SMALL, BYSTANDER: BIG}
    assert audited(node, mess) == audited(node, dict(reversed(mess.items())))
    assert audited(replace(node, sequence=9), mess) == audited(node, mess)
