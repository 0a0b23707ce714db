# SPDX-License-Identifier: Apache-2.0
"""How an audit explains what it changes, and what it leaves alone."""

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    a_report,
    after,
    an_instance,
    claims_of,
    command,
    decided,
    some_resources,
)
from tests.unit.domain.auditing import NEW, OLD, a_move, corrections
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.decision import Audited, Decision
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Instance, Migration, Origin
from tracker_worker.domain.views import claim_view

ARRIVING = an_instance(flavor=OLD, task_state="resize_migrating")
RESIZED = an_instance(flavor=NEW, vm_state="resized")


def explained(decision: Decision) -> set[tuple[str, str, str, str]]:
    """The corrections as (action, reason, old role, new role)."""
    return {
        (c.action, c.reason, c.old.role if c.old else "", c.new.role if c.new else "")
        for c in corrections(decision)
    }


@pytest.mark.parametrize(
    ("held", "instances", "migrations", "told"),
    [
        ((), [an_instance()], [], {("added", "instance_here", "", "instance")}),
        (
            (),
            [],
            [a_move(instance=ARRIVING)],
            {("added", "move_to_here", "", "incoming")},
        ),
        (
            (),
            [],
            [a_move(source_node="node-1", dest_node="x", instance=RESIZED)],
            {("added", "move_from_here", "", "outgoing")},
        ),
        (
            (),
            [RESIZED],
            [a_move(source_node="node-1")],
            {
                ("added", "instance_here", "", "instance"),
                ("added", "move_from_here", "", "outgoing"),
            },
        ),
        ((a_claim(),), [], [], {("released", "not_here", "instance", "")}),
        (
            (a_claim("incoming", MOVE), a_claim("outgoing")),
            [],
            [],
            {("released", "not_here", "incoming", ""), ("released", "not_here", "outgoing", "")},
        ),
        (
            (a_claim(flavor=NEW),),
            [an_instance(flavor=OLD)],
            [],
            {("changed", "size_changed", "instance", "instance")},
        ),
        (
            (a_claim(),),
            [an_instance(volume_backed=True)],
            [],
            {("changed", "size_changed", "instance", "instance")},
        ),
        (
            (a_claim("incoming", OTHER_MOVE, NEW),),
            [],
            [a_move(instance=ARRIVING)],
            {("changed", "migration_changed", "incoming", "incoming")},
        ),
    ],
)
def test_each_difference_is_explained(
    held: tuple[Claim, ...],
    instances: list[Instance],
    migrations: list[Migration],
    told: set[tuple[str, str, str, str]],
) -> None:
    _, decision = decided(a_node(*held), a_report(instances, migrations))
    assert explained(decision) == told


ROLE_CHANGES = {
    "has left for elsewhere": (
        (a_claim(flavor=OLD),),
        [],
        [a_move(source_node="node-1", dest_node="x", instance=RESIZED)],
        {("instance", "outgoing")},
    ),
    "has landed here": (
        (a_claim("incoming", MOVE, NEW),),
        [RESIZED],
        [a_move()],
        {("incoming", "instance")},
    ),
    "has landed here and its move is over": (
        (a_claim("incoming", MOVE, NEW),),
        [an_instance(flavor=NEW)],
        [],
        {("incoming", "instance")},
    ),
    "has landed on its own node": (
        (a_claim(flavor=OLD), a_claim("incoming", MOVE, NEW)),
        [RESIZED],
        [a_move(source_node="node-1")],
        {("instance", "outgoing"), ("incoming", "instance")},
    ),
    "has landed on its own node in the same flavor": (
        (a_claim(flavor=NEW), a_claim("incoming", MOVE, NEW)),
        [RESIZED],
        [a_move(source_node="node-1", old_flavor=NEW)],
        {("instance", "outgoing"), ("incoming", "instance")},
    ),
    "is not yet in the flavor it had here": (
        (a_claim("outgoing", None, OLD), a_claim("instance", MOVE, NEW)),
        [an_instance(flavor=OLD, task_state="resize_prep")],
        [a_move(source_node="node-1")],
        {("outgoing", "instance"), ("instance", "incoming")},
    ),
    "is not yet in the flavor of the same numbers that it had here": (
        (a_claim("outgoing", None, OLD), a_claim("instance", MOVE, OLD)),
        [an_instance(flavor=OLD, task_state="resize_prep")],
        [a_move(source_node="node-1", new_flavor=a_flavor(2, 2048, 20, id="2"))],
        {("outgoing", "instance"), ("instance", "incoming")},
    ),
    "is back after a revert": (
        (a_claim("outgoing", None, OLD),),
        [an_instance(flavor=OLD)],
        [],
        {("outgoing", "instance")},
    ),
}


@pytest.mark.parametrize(
    ("held", "instances", "migrations", "turned"), ROLE_CHANGES.values(), ids=ROLE_CHANGES
)
def test_right_claim_in_the_wrong_role_changes_its_role(
    held: tuple[Claim, ...],
    instances: list[Instance],
    migrations: list[Migration],
    turned: set[tuple[str, str]],
) -> None:
    """It is never released and added: pins and devices would go to somebody else meanwhile."""
    before = a_node(*held)
    node, decision = decided(before, a_report(instances, migrations))
    assert explained(decision) == {("changed", "role_changed", *roles) for roles in turned}
    assert node.used == before.used
    assert {c.migration_uuid for c in claims_of(node).values()} == {c.migration_uuid for c in held}


def test_correction_carries_old_and_new_values() -> None:
    old, new = a_claim(flavor=OLD), a_claim(flavor=NEW)
    _, decision = decided(a_node(old), a_report([an_instance(flavor=NEW)]))
    (correction,) = corrections(decision)
    assert correction == Correction("changed", INSTANCE, "size_changed", claim_view(old), claim_view(new))


def test_changed_states_are_taken_over_without_a_correction() -> None:
    busy = an_instance(vm_state="stopped", task_state="powering-on", project_id="p9")
    node, decision = decided(a_node(a_claim()), a_report([busy]))
    assert (decision.outcome, decision.effects) == ("applied", ())
    assert claims_of(node) == {
        "instance": a_claim(vm_state="stopped", task_state="powering-on", project_id="p9")
    }


def test_who_brought_the_instance_is_not_forgotten_when_the_move_is_over() -> None:
    held = a_claim("instance", MOVE)
    node, decision = decided(a_node(held), a_report([an_instance()]))
    assert decision.outcome == "ignored"
    assert claims_of(node) == {"instance": held}


def test_audit_of_one_instance_leaves_the_others_right() -> None:
    other = an_instance(BYSTANDER)
    held = a_claim(uuid=BYSTANDER)
    node, decision = decided(a_node(held, a_claim()), a_report([other]))
    assert explained(decision) == {("released", "not_here", "instance", "")}
    assert (claims_of(node), claims_of(node, BYSTANDER)) == ({}, {"instance": held})


def test_unavailable_node_is_not_audited() -> None:
    held = a_claim()
    off = some_resources(available=False)
    node, decision = decided(a_node(held), a_report([], resources=off))
    assert (claims_of(node), decision.effects) == ({"instance": held}, ())
    again, decision = decided(node, a_report([an_instance(flavor=NEW)], resources=off))
    assert (decision.outcome, again.claims) == ("ignored", node.claims)


def test_first_report_of_a_node_adopts_its_instances() -> None:
    node, decision = decided(Node("node-1"), a_report([an_instance(), an_instance(BYSTANDER)]))
    assert len(corrections(decision)) == 2
    assert node.used.vcpus == 4


@pytest.mark.parametrize("held", [(), (a_claim(),), (a_claim("incoming", MOVE), a_claim())])
def test_migration_without_its_instance_changes_nothing_of_it(held: tuple[Claim, ...]) -> None:
    before = a_node(*held)
    node, decision = decided(before, a_report([], [a_move()]))
    assert (decision.outcome, decision.effects) == ("ignored", ())
    assert node.claims == before.claims


def test_migrations_without_their_instance_are_counted() -> None:
    moves = [a_move(), a_move(uuid=OTHER_MOVE), a_move(uuid="m3", instance_uuid=BYSTANDER)]
    _, decision = decided(a_node(a_claim()), a_report([an_instance(BYSTANDER)], moves))
    (told,) = decision.effects
    assert isinstance(told, Audited)
    assert told.migrations_without_instance == 2
    assert {c.instance_uuid for c in told.corrections} == {BYSTANDER}


ME, OTHER = "client-1", "client-2"


@pytest.mark.parametrize(
    ("last_touch", "left_alone"),
    [
        (Origin(ME, 8), True),
        (Origin(ME, 7), False),
        (Origin(ME, 1), False),
        (Origin(OTHER, 8), False),
        (Origin(OTHER, 1), False),
        (None, False),
    ],
)
@pytest.mark.parametrize("in_facts", [True, False])
def test_audit_leaves_alone_what_its_source_touched_since(
    last_touch: Origin | None, left_alone: bool, in_facts: bool
) -> None:
    last_origins = {INSTANCE: last_touch} if last_touch else {}
    held = a_claim(flavor=NEW)
    facts = [an_instance(flavor=OLD)] if in_facts else []
    asked = a_report(facts, origin=Origin(ME, 9), as_of=7)
    node, decision = decided(a_node(held, last_origins=last_origins), asked)
    assert (claims_of(node) == {"instance": held}) == left_alone
    assert (corrections(decision) == ()) == left_alone
    assert node.last_origins == (last_origins if left_alone else {})


def test_release_that_the_facts_do_not_know_yet_is_not_undone() -> None:
    deleted = command("update_usage", instance=an_instance(vm_state="deleted"), origin=Origin(ME, 8))
    node = after(a_node(a_claim()), deleted)
    node, decision = decided(node, a_report([an_instance()], origin=Origin(ME, 9), as_of=7))
    assert (claims_of(node), decision.outcome) == ({}, "ignored")
    node, decision = decided(node, a_report([], origin=Origin(ME, 11), as_of=9))
    assert (claims_of(node), node.last_origins) == ({}, {})


def test_move_that_the_facts_do_not_know_yet_is_not_undone() -> None:
    claim = command(
        "resize_claim",
        instance=an_instance(),
        flavor=NEW,
        migration=a_migration(),
        origin=Origin(ME, 8),
    )
    node = after(a_node(), claim)
    again, decision = decided(node, a_report([], origin=Origin(ME, 9), as_of=7))
    assert (again.claims, decision.changes) == (node.claims, ())


@pytest.mark.parametrize("origin", [None, Origin(ME, 9)])
def test_audit_without_as_of_corrects_everything(origin: Origin | None) -> None:
    node = a_node(a_claim(), last_origins={INSTANCE: Origin(ME, 8)})
    node, decision = decided(node, a_report([], origin=origin))
    assert (claims_of(node), node.last_origins) == ({}, {})
    assert explained(decision) == {("released", "not_here", "instance", "")}


def test_audit_forgets_touches_up_to_as_of_even_when_it_changes_nothing() -> None:
    last_origins = {INSTANCE: Origin(ME, 3), BYSTANDER: Origin(OTHER, 99), "third": Origin(ME, 8)}
    asked = a_report([an_instance()], origin=Origin(ME, 9), as_of=7)
    node, decision = decided(a_node(a_claim(), last_origins=last_origins), asked)
    assert (decision.outcome, decision.changes) == ("ignored", ())
    assert node.last_origins == {"third": Origin(ME, 8)}


def test_report_without_instances_forgets_no_touch() -> None:
    last_origins = {INSTANCE: Origin(ME, 3)}
    node, _ = decided(a_node(last_origins=last_origins), a_report(origin=Origin(ME, 9), as_of=7))
    assert node.last_origins == last_origins


def test_correction_of_two_roles_at_once_keeps_the_sum() -> None:
    """Roles are dropped before they are put: the two claims of a same-node move may swap."""
    node = a_node(a_claim("outgoing", None, OLD), a_claim("instance", MOVE, NEW))
    back = an_instance(flavor=OLD, task_state="resize_prep")
    node, _ = decided(node, a_report([back], [a_move(source_node="node-1")]))
    assert {role: c.flavor.vcpus for role, c in claims_of(node).items()} == {
        "instance": 2,
        "incoming": 4,
    }
