# SPDX-License-Identifier: Apache-2.0
"""What receipts prove of an allocation that no claim explains."""

from datetime import datetime

import pytest

from tests.builders import BYSTANDER, INSTANCE, MOVE, NODE
from tracker_worker.core.history import StoredEvent
from tracker_worker.domain.deltas import ClaimDelta, Delta, Holding
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Role
from tracker_worker.placement.audit import Finding, FindingKind
from tracker_worker.placement.evidence import last_events, subject_of, why_kept

HELD = Holding(Amounts(2, 2048, 20480))
MOVED = Holding(Amounts(2, 2048, 20480), MOVE)
ORPHAN = Finding(NODE, FindingKind.ORPHANED, INSTANCE, placement={"VCPU": 2})


def an_event(
    *claims: ClaimDelta,
    method: str = "update_usage",
    outcome: str = "applied",
    instance: str | None = INSTANCE,
    event_id: str = "event",
) -> StoredEvent:
    """An event of NODE."""
    at = datetime(2026, 11, 29, 12)
    delta = Delta(claims)
    return StoredEvent(3, at, NODE, method, event_id, "req-1", outcome, None, instance, delta)


RELEASED = an_event(ClaimDelta(Role.INSTANCE, old=HELD))
UNKNOWN = StoredEvent(2, None, NODE, "update_usage", "old", None, "applied", None, None, None)


def test_last_event_is_the_newest_that_names_the_instance() -> None:
    older = an_event(ClaimDelta(Role.INSTANCE, new=HELD), method="instance_claim")
    refused = an_event(outcome="refused", method="resize_claim", instance=BYSTANDER)
    assert last_events([RELEASED, refused, older], [INSTANCE, BYSTANDER, MOVE]) == {
        INSTANCE: RELEASED,
        BYSTANDER: refused,
    }


def test_event_names_the_instances_and_migrations_of_the_claims_that_it_changed() -> None:
    audit = an_event(ClaimDelta(Role.INSTANCE, old=MOVED, instance_uuid=INSTANCE), instance=None)
    assert last_events([audit], [INSTANCE, MOVE]) == {INSTANCE: audit, MOVE: audit}


def test_events_before_one_whose_changes_are_not_known_say_nothing() -> None:
    assert last_events([UNKNOWN, RELEASED], [INSTANCE]) == {}


def test_release_proves_that_an_orphan_is_left_over() -> None:
    assert why_kept(ORPHAN, RELEASED) is None
    removed = Finding(NODE, FindingKind.REMOVED_NODE, INSTANCE)
    assert why_kept(removed, RELEASED) is None


def test_release_of_the_claim_that_a_migration_brought_proves_it_too() -> None:
    released = an_event(ClaimDelta(Role.INCOMING, old=MOVED))
    assert why_kept(Finding(NODE, FindingKind.ORPHANED, MOVE), released) is None


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (None, "no receipt"),
        (an_event(outcome="ignored"), "released nothing"),
        (an_event(outcome="refused", method="instance_claim"), "released nothing"),
        (an_event(ClaimDelta(Role.INSTANCE, new=HELD), method="instance_claim"), "released nothing"),
        (an_event(ClaimDelta(Role.INSTANCE, old=HELD, new=MOVED)), "released nothing"),
        (
            an_event(ClaimDelta(Role.INSTANCE, old=HELD), ClaimDelta(Role.OUTGOING, new=HELD)),
            "released nothing",
        ),
        (an_event(ClaimDelta(Role.INSTANCE, old=HELD, instance_uuid=BYSTANDER)), "released nothing"),
        (an_event(ClaimDelta(Role.INSTANCE, old=HELD), method="remove_node"), "removed with the node"),
    ],
)
def test_anything_else_does_not_prove_it(event: StoredEvent | None, why: str) -> None:
    assert why in (why_kept(ORPHAN, event) or "")


def test_what_a_node_claims_is_kept() -> None:
    claimed = Finding(NODE, FindingKind.REMOVED_NODE, INSTANCE, nodes=("node-2",))
    assert why_kept(claimed, RELEASED) == "node-2 claims the instance"


@pytest.mark.parametrize("kind", [FindingKind.MISSING, FindingKind.SIZE, FindingKind.DOUBLE])
def test_other_findings_are_kept(kind: FindingKind) -> None:
    assert why_kept(Finding(NODE, kind, INSTANCE), RELEASED) is not None


def test_events_of_the_instance_explain_a_claim_and_those_of_the_consumer_an_orphan() -> None:
    assert subject_of(ORPHAN) == INSTANCE
    assert subject_of(Finding(NODE, FindingKind.MISSING, MOVE, INSTANCE)) == INSTANCE
