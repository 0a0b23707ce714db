# SPDX-License-Identifier: Apache-2.0
"""Audits that come late, and what is remembered of origins: bounded, and never to the harm of a claim."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    BYSTANDER,
    NODE,
    SETTINGS,
    a_claim,
    a_node,
    a_report,
    after,
    an_instance,
    claims_of,
    decided,
    some_resources,
)
from tracker_worker.domain.commands import AbortInstanceClaim, RepeatedAudit, UpdateAvailableResource
from tracker_worker.domain.decide import AS_OF_TOO_OLD, STALE_AUDIT, decide
from tracker_worker.domain.node import Node, evolve
from tracker_worker.domain.objects import Instance, Origin
from tracker_worker.domain.origins import (
    MAX_ORIGINS,
    MOST_SOURCES,
    AuditSeen,
    OriginEvicted,
    OriginRecorded,
    Source,
)

ME, OTHER = "client-1", "client-2"


def audit_at(
    number: int, instances: Iterable[Instance] = (), source: str = ME, **more: Any
) -> UpdateAvailableResource:
    return a_report(list(instances), origin=Origin(source, number), **more)


def test_late_audit_does_not_undo_what_a_newer_one_has_seen() -> None:
    here = an_instance()
    node = after(a_node(), audit_at(5, []), audit_at(7, [here]))
    late, decision = decided(node, audit_at(6, []))
    assert (decision.outcome, decision.reason, decision.recorded) == ("ignored", STALE_AUDIT, False)
    assert (late, decision.effects, decision.marks) == (node, (), ())
    assert "instance" in claims_of(late)


def test_late_audit_changes_neither_totals_nor_failed_builds() -> None:
    node = after(a_node(failed_builds=2), audit_at(7))
    late, _ = decided(node, audit_at(6, startup=True))
    assert late == node


def test_same_audit_again_is_stale() -> None:
    node, _ = decided(a_node(), audit_at(5))
    assert decided(node, audit_at(5))[1].reason == STALE_AUDIT


def test_audits_of_another_source_are_judged_by_their_own() -> None:
    node = after(a_node(a_claim()), audit_at(7, [an_instance()]))
    _, decision = decided(node, audit_at(1, source=OTHER))
    assert decision.outcome == "applied"


def test_report_without_instances_is_no_audit_and_never_stale() -> None:
    node = after(a_node(), audit_at(7))
    _, decision = decided(node, a_report(origin=Origin(ME, 6)))
    assert (decision.reason, decision.recorded) == (None, True)


def test_audit_without_origin_is_never_stale_and_leaves_a_receipt() -> None:
    node = after(a_node(), audit_at(7))
    _, decision = decided(node, a_report([]))
    assert (decision.reason, decision.recorded) == (None, True)


def test_audit_that_changes_nothing_leaves_no_receipt_and_no_sequence() -> None:
    node = after(a_node(), audit_at(5, [an_instance()]))
    again, decision = decided(node, audit_at(6, [an_instance()]))
    assert (decision.outcome, decision.recorded) == ("ignored", False)
    assert again.sequence == node.sequence
    assert again.sources == {ME: Source(audited=6)}


def test_audit_that_changes_something_leaves_a_receipt() -> None:
    node, decision = decided(a_node(), audit_at(5, [an_instance()]))
    assert (decision.outcome, decision.recorded) == ("applied", True)
    assert node.sources == {ME: Source(audited=5)}


def test_audit_of_an_unavailable_node_counts_as_seen() -> None:
    resources = replace(a_report().resources, available=False)
    node, _ = decided(a_node(a_claim()), a_report([], resources=resources, origin=Origin(ME, 5)))
    assert node.sources == {ME: Source(audited=5)}
    assert claims_of(node)


def test_so_many_sources_are_remembered_and_the_oldest_goes() -> None:
    node = a_node()
    for number in range(MOST_SOURCES):
        node = after(node, audit_at(1, source=f"s{number}"))
    node = after(node, audit_at(2, source="s0"), audit_at(1, source="new"))
    assert list(node.sources) == [*(f"s{n}" for n in range(2, MOST_SOURCES)), "s0", "new"]


def touching(number: int, uuid: str, source: str = ME) -> AbortInstanceClaim:
    return AbortInstanceClaim(node=NODE, instance_uuid=uuid, origin=Origin(source, number))


@pytest.fixture(scope="module")
def crowded() -> Node:
    """A node that remembers as many instances as it can: i-1 was touched first."""
    marks = [OriginRecorded(f"i-{n}", Origin(ME, n)) for n in range(1, MAX_ORIGINS + 1)]
    return evolve(a_node(a_claim()), marks)


def test_touched_instances_are_bounded_and_the_one_touched_longest_ago_goes(crowded: Node) -> None:
    node = after(crowded, touching(5001, "one-more"))
    assert len(node.last_origins) == MAX_ORIGINS
    assert "i-1" not in node.last_origins
    assert node.sources == {ME: Source(evicted=1)}


def test_instance_that_is_touched_again_is_not_the_oldest_any_more(crowded: Node) -> None:
    node = after(crowded, touching(5001, "i-1"), touching(5002, "one-more"))
    assert "i-1" in node.last_origins
    assert "i-2" not in node.last_origins


def test_node_of_an_older_version_with_more_than_that_is_cut_by_its_next_event(crowded: Node) -> None:
    marks = [OriginRecorded(f"x-{n}", Origin(ME, 3000 + n)) for n in range(200)]
    node = after(evolve(crowded, marks), touching(5001, "one-more"))
    assert len(node.last_origins) == MAX_ORIGINS
    assert node.sources == {ME: Source(evicted=201)}


def test_audit_that_does_not_know_what_was_given_up_corrects_nothing(crowded: Node) -> None:
    node = after(crowded, touching(5001, "a"), touching(5002, "b"))
    audited, decision = decided(node, audit_at(5003, [], as_of=1))
    assert (decision.outcome, decision.recorded) == ("ignored", False)
    assert decision.reason and decision.reason.startswith(AS_OF_TOO_OLD)
    assert claims_of(audited) == claims_of(node)


def test_audit_that_knows_what_was_given_up_corrects_the_rest(crowded: Node) -> None:
    node = after(crowded, touching(5001, "a"), touching(5002, "b"))
    audited, decision = decided(node, audit_at(5003, [], as_of=2))
    assert (decision.outcome, claims_of(audited)) == ("applied", {})
    assert set(audited.last_origins) == {f"i-{n}" for n in range(3, MAX_ORIGINS + 1)} | {"a", "b"}


def test_report_in_an_audit_that_knows_too_little_counts(crowded: Node) -> None:
    node = after(crowded, touching(5001, "a"), touching(5002, "b"))
    larger = replace(a_report().resources, vcpus=16)
    audited, decision = decided(node, audit_at(5003, [], as_of=1, resources=larger))
    assert audited.resources is not None
    assert (decision.outcome, audited.resources.vcpus) == ("applied", 16)
    assert claims_of(audited) == claims_of(node)


def test_eviction_of_what_is_not_remembered_changes_nothing() -> None:
    node = a_node()
    assert evolve(node, [OriginEvicted(BYSTANDER)]).sources == {}


def test_numbers_of_a_source_never_fall() -> None:
    node = evolve(a_node(), [AuditSeen(Origin(ME, 7)), AuditSeen(Origin(ME, 3))])
    assert node.sources == {ME: Source(audited=7)}


@pytest.mark.parametrize("order", list(itertools.permutations([5, 6, 7])))
def test_audits_in_any_order_end_as_the_newest_says(order: tuple[int, int, int]) -> None:
    facts = {5: [], 6: [an_instance()], 7: [an_instance(BYSTANDER)]}
    node = after(a_node(), *(audit_at(number, facts[number]) for number in order))
    assert (claims_of(node), set(claims_of(node, BYSTANDER))) == ({}, {"instance"})


def repeat(number: int, as_of: int | None = None) -> RepeatedAudit:
    return RepeatedAudit(node=NODE, origin=Origin(ME, number), as_of=as_of)


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("as_of", [None, 3, 7])
@pytest.mark.parametrize("number", [4, 9])
def test_repeated_audit_is_decided_as_the_decoded_one(
    number: int, as_of: int | None, available: bool
) -> None:
    resources = some_resources(available=available)
    node = a_node(resources=resources, sequence=5, sources={ME: Source(audited=4, evicted=5)})
    decoded = decide(node, audit_at(number, [], resources=resources, as_of=as_of), SETTINGS, {})
    assert decide(node, repeat(number, as_of), SETTINGS, {}) == decoded
