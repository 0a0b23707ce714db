# SPDX-License-Identifier: Apache-2.0
"""evolve and the sum: used = reserve + claims, after whatever happens in whatever order."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

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
    an_instance,
    claims_of,
    command,
    decided,
    some_resources,
)
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import HeldClaims, Role, claim_for
from tracker_worker.domain.node import (
    MOST_CONFLICTS,
    BuildsCounted,
    Change,
    ClaimDropped,
    ClaimPut,
    ConflictNoted,
    ConflictsResolved,
    LedgerBroken,
    Node,
    NodeRemoved,
    Ratios,
    Reported,
    ServiceStatusSet,
    assert_sum,
    assert_sum_follows,
    evolve,
    proved,
)
from tracker_worker.domain.objects import Limits, Migration, Origin
from tracker_worker.domain.origins import OriginCleared, OriginRecorded, Source

HERE, COMING = a_claim(), a_claim("incoming", MOVE, a_flavor(4, 4096, 40))
ORIGIN = Origin("client-1", 1)


def test_event_without_changes_takes_a_sequence_number() -> None:
    node = a_node(HERE, sequence=7)
    assert evolve(node, ()) == replace(node, sequence=8)


def test_event_of_many_changes_takes_one_sequence_number() -> None:
    assert evolve(a_node(), [ClaimPut(HERE), ClaimPut(COMING), BuildsCounted(1)]).sequence == 1


@pytest.mark.parametrize(
    ("changes", "claimed", "roles"),
    [
        ([ClaimPut(HERE)], Amounts(2, 2048, 20480), {"instance"}),
        ([ClaimPut(HERE), ClaimPut(COMING)], Amounts(6, 6144, 61440), {"instance", "incoming"}),
        ([ClaimPut(HERE), ClaimPut(HERE)], Amounts(2, 2048, 20480), {"instance"}),
        (
            [ClaimPut(HERE), ClaimPut(replace(COMING, role=Role.INSTANCE))],
            Amounts(4, 4096, 40960),
            {"instance"},
        ),
        ([ClaimPut(HERE), ClaimDropped(INSTANCE, Role.INSTANCE)], Amounts(), set()),
        (
            [ClaimPut(HERE), ClaimDropped(INSTANCE, Role.OUTGOING)],
            Amounts(2, 2048, 20480),
            {"instance"},
        ),
        ([ClaimDropped(INSTANCE, Role.INSTANCE)], Amounts(), set()),
        ([ClaimPut(HERE), ClaimPut(COMING), NodeRemoved()], Amounts(), set()),
    ],
)
def test_running_sum_follows_the_claims(changes: list[Change], claimed: Amounts, roles: set[str]) -> None:
    node = evolve(a_node(), changes)
    assert (node.claimed, set(claims_of(node))) == (claimed, roles)
    assert_sum(node)


def test_instance_whose_last_claim_went_is_forgotten() -> None:
    node = evolve(a_node(HERE), [ClaimDropped(INSTANCE, Role.INSTANCE)])
    assert dict(node.claims) == {}


def test_evolve_leaves_the_older_node_as_it_was() -> None:
    old = a_node(HERE, last_origins={BYSTANDER: ORIGIN})
    evolve(
        old,
        [
            ClaimPut(COMING),
            ClaimDropped(INSTANCE, Role.INSTANCE),
            OriginRecorded(INSTANCE, ORIGIN),
            OriginCleared(BYSTANDER),
        ],
    )
    assert old == a_node(HERE, last_origins={BYSTANDER: ORIGIN})


REPORT = Reported(some_resources(vcpus=99), Amounts(1, 2, 3), Ratios(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (
            REPORT,
            {"resources": REPORT.resources, "reserve": REPORT.reserve, "ratios": REPORT.ratios},
        ),
        (BuildsCounted(4), {"failed_builds": 4}),
        (ServiceStatusSet(True), {"disabled": True}),
        (ConflictNoted("u"), {"conflicts": ("u",)}),
        (ConflictsResolved(), {"conflicts": ()}),
        (OriginRecorded(INSTANCE, ORIGIN), {"last_origins": {INSTANCE: ORIGIN}}),
        (OriginCleared(INSTANCE), {"last_origins": {}}),
    ],
)
def test_change_of_the_node_leaves_the_claims(change: Change, fields: dict[str, Any]) -> None:
    before = a_node(HERE)
    assert evolve(before, [change]) == replace(before, sequence=1, **fields)


def test_conflicting_uuids_are_kept_up_to_a_bound() -> None:
    """Somebody who sends a new uuid every second must not make the node grow without end."""
    node = a_node()
    for number in range(MOST_CONFLICTS + 5):
        node = evolve(node, [ConflictNoted(str(number))])
    assert len(node.conflicts) == MOST_CONFLICTS
    assert node.conflicts[-1] == str(MOST_CONFLICTS + 4)
    assert evolve(node, [ConflictsResolved()]).conflicts == ()


def test_used_is_the_reserve_plus_the_claims() -> None:
    node = a_node(HERE, COMING, reserve=Amounts(1, 512, 1500))
    assert node.used == Amounts(7, 6656, 62940)


def test_claim_is_found_by_instance_and_role() -> None:
    node = a_node(HERE, COMING)
    assert node.claim(INSTANCE, Role.INSTANCE) == HERE
    assert node.claim(INSTANCE, Role.INCOMING) == COMING
    assert node.claim(INSTANCE, Role.OUTGOING) is None
    assert node.claim(BYSTANDER, Role.INSTANCE) is None


def test_claim_keeps_the_numbers_of_a_flavor_only() -> None:
    flavor = a_flavor(name="m1", id="1", extra_specs={"hw:numa_nodes": "1"}, swap_mb=3)
    claim = claim_for(an_instance(flavor=flavor), Role.INSTANCE, None)
    assert claim.flavor == a_flavor(swap_mb=3)
    assert claim_for(an_instance(), Role.INCOMING, MOVE, a_flavor(9)).amounts.vcpus == 9


@pytest.mark.parametrize(
    "broken",
    [
        replace(a_node(HERE), claimed=Amounts()),
        replace(a_node(HERE), claimed=Amounts(3, 2048, 20480)),
        replace(a_node(HERE), claimed=Amounts(2, 2047, 20480)),
        replace(a_node(HERE), claimed=Amounts(2, 2048, 20481)),
        replace(a_node(HERE), claims=HeldClaims()),
        replace(a_node(HERE), claims=HeldClaims.of([HERE, COMING])),
    ],
)
def test_broken_sum_is_found(broken: Node) -> None:
    with pytest.raises(LedgerBroken, match="node-1 at sequence 0"):
        assert_sum(broken)
    with pytest.raises(LedgerBroken, match="node-1 at sequence 0"):
        assert_sum_follows(a_node(), broken, [(INSTANCE, Role.INSTANCE), (INSTANCE, Role.INCOMING)])


def test_broken_count_is_found() -> None:
    node = a_node(HERE)
    wrong = HeldClaims(Map(dict(node.claims)), replace(node.claims.counts, instances=2))
    with pytest.raises(LedgerBroken, match="node-1 at sequence 0"):
        assert_sum(replace(node, claims=wrong))


def test_sum_that_follows_the_changed_claims_is_proved_by_them_alone() -> None:
    before = a_node(HERE, a_claim(uuid=BYSTANDER))
    after = evolve(before, [ClaimDropped(BYSTANDER, Role.INSTANCE), ClaimPut(COMING)])
    changed = [(BYSTANDER, Role.INSTANCE), (INSTANCE, Role.INCOMING)]
    assert_sum_follows(before, after, changed)
    with pytest.raises(LedgerBroken):
        assert_sum_follows(before, after, changed[:1])


@pytest.mark.parametrize("changes_an_instance", [1, 2, 3])
def test_whole_sum_is_proved_rarely_while_a_node_fills_and_again_after_as_many_changes_as_instances(
    changes_an_instance: int,
) -> None:
    node, proofs = a_node(), 0
    for number in range(200):
        for state in range(changes_an_instance):
            claim = a_claim(uuid=f"i-{number}", vm_state=f"state-{state}")
            node = evolve(node, [ClaimPut(claim)])
            if node.claims.until_proof <= 0:
                node, proofs = proved(node), proofs + 1
    assert 3 <= proofs <= 12
    assert 0 < node.claims.until_proof <= 200


def test_proof_of_the_whole_sum_finds_a_broken_one() -> None:
    with pytest.raises(LedgerBroken):
        proved(replace(a_node(HERE), claimed=Amounts()))


def test_claims_are_held_in_the_order_of_instances_and_roles() -> None:
    claims = [a_claim(uuid="b"), a_claim("incoming", MOVE, uuid="a"), a_claim(uuid="a")]
    held = [(claim.instance_uuid, claim.role) for claim in a_node(*claims).held()]
    assert held == [("a", "incoming"), ("a", "instance"), ("b", "instance")]


UUIDS = st.sampled_from([INSTANCE, BYSTANDER])
LABELS = st.sampled_from([MOVE, OTHER_MOVE])
FLAVORS = st.sampled_from([a_flavor(1, 512, 1), a_flavor(2, 1024, 2, swap_mb=3), a_flavor(5)])
INSTANCES = st.builds(
    an_instance,
    UUIDS,
    FLAVORS,
    vm_state=st.sampled_from(["active", "resized", "deleted"]),
    task_state=st.sampled_from([None, "resize_prep"]),
    volume_backed=st.booleans(),
)
LIMITS = st.sampled_from([None, Limits(vcpu=6), Limits(memory_mb=2000)])
BY_UUID = st.sampled_from(
    ["start_move", "drop_move_claim", "drop_move_claim_at_source", "drop_move_claim_at_dest"]
)


@st.composite
def migrations(draw: st.DrawFn) -> Migration:
    """A move of one of the two instances, with or without it."""
    instance = draw(INSTANCES)
    return a_migration(
        draw(LABELS),
        instance.uuid,
        source_node=draw(st.sampled_from(["node-1", "x"])),
        old_flavor=draw(st.none() | FLAVORS),
        new_flavor=draw(FLAVORS),
        instance=draw(st.sampled_from([instance, None])),
    )


AUDITS = st.builds(a_report, st.lists(INSTANCES, max_size=2), st.lists(migrations(), max_size=2))
COMMANDS = st.one_of(
    st.builds(command, st.just("instance_claim"), instance=INSTANCES, limits=LIMITS),
    st.builds(
        command,
        st.just("resize_claim"),
        instance=INSTANCES,
        flavor=FLAVORS,
        limits=LIMITS,
        migration=st.builds(a_migration, LABELS),
    ),
    st.builds(command, st.just("abort_instance_claim"), instance_uuid=UUIDS),
    st.builds(command, BY_UUID, instance_uuid=UUIDS, migration_uuid=LABELS),
    st.builds(
        command,
        st.sampled_from(["finish_move", "finish_revert_move"]),
        instance=INSTANCES,
        migration_uuid=LABELS,
    ),
    st.builds(command, st.just("update_usage"), instance=INSTANCES),
    AUDITS,
)


@settings(max_examples=3 * settings().max_examples // 2, derandomize=True, database=None)
@given(st.lists(COMMANDS, max_size=12))
def test_any_sequence_of_events_keeps_the_sum_and_one_claim_a_role(commands: list[AnyCommand]) -> None:
    node = a_node()
    for each in commands:
        before = node
        node, decision = decided(before, each)
        assert_sum(node)
        for uuid in node.claims:
            assert claims_of(node, uuid)
        if decision.outcome in ("ignored", "refused"):
            assert node.claims == before.claims


@settings(max_examples=3 * settings().max_examples // 2, derandomize=True, database=None)
@given(st.lists(COMMANDS, max_size=8), AUDITS)
def test_second_audit_of_the_same_facts_finds_nothing(commands: list[AnyCommand], audit: AnyCommand) -> None:
    node = a_node()
    for each in (*commands, audit):
        node, _ = decided(node, each)
    again, decision = decided(node, audit)
    assert (decision.outcome, decision.changes, decision.effects) == ("ignored", (), ())
    assert again.claims == node.claims


def test_an_event_that_was_overtaken_does_not_hide_the_later_one_of_its_client() -> None:
    """Two threads of a client name one instance; an audit between their numbers must not undo the later."""
    node = evolve(a_node(), [OriginRecorded(INSTANCE, Origin("client-1", 6))])
    node = evolve(node, [OriginRecorded(INSTANCE, Origin("client-1", 4))])
    assert node.last_origins == {INSTANCE: Origin("client-1", 6)}
    node = evolve(node, [OriginRecorded(INSTANCE, Origin("client-2", 1))])
    assert node.last_origins == {INSTANCE: Origin("client-2", 1)}


def test_client_has_no_newer_audit_where_its_last_one_is_known_and_older() -> None:
    node = a_node(sources={"client-1": Source(audited=5)})
    assert node.has_no_newer(Origin("client-1", 6))
    assert not node.has_no_newer(Origin("client-1", 5))
    assert not node.has_no_newer(Origin("client-2", 6))
