# SPDX-License-Identifier: Apache-2.0
"""What a receipt keeps of a change, and the earlier states that are computed from it."""

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    a_claim,
    a_flavor,
    a_node,
    a_report,
    an_instance,
    command,
    decided,
    some_resources,
)
from tests.topologies import HUGE_KB, PAGES, a_host, a_numa_node, a_pinned_guest, holding, host_resources
from tracker_worker.core.records import NO_DELTA, decode_delta, encode_delta
from tracker_worker.domain.commands import AnyCommand, instance_uuid_of
from tracker_worker.domain.deltas import ClaimDelta, Delta, HeldCell, Holding, Totals, delta_of, holding_of
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import HostTopology, Limits
from tracker_worker.domain.rewind import HeldOfCell, State, held_cells

SMALL = Amounts(2, 2048, 20 * 1024)
TOTALS = Totals(8, 16384, 100, 0, 512, 0, 4.0, 1.0, 1.0)


def changed(node: Node, a_command: AnyCommand) -> tuple[Node, Delta | None]:
    after, decision = decided(node, a_command)
    return after, delta_of(node, after, decision, instance_uuid_of(a_command))


def test_claim_of_the_events_instance_is_short() -> None:
    _, delta = changed(a_node(), command("instance_claim", instance=an_instance()))
    assert delta == Delta((ClaimDelta(Role.INSTANCE, None, Holding(SMALL)),))
    assert encode_delta(delta) == '{"claims":[{"role":"instance","new":{"amounts":[2,2048,20480]}}]}'
    assert decode_delta(encode_delta(delta)) == delta


def test_event_that_changes_states_or_nothing_has_no_delta() -> None:
    node = a_node(a_claim())
    too_large = an_instance(BYSTANDER, a_flavor(memory_mb=32768))
    for each in (
        command("update_usage", instance=an_instance(vm_state="stopped")),
        command("update_usage", instance=an_instance()),
        command("build_failed"),
        command("instance_claim", instance=too_large, limits=Limits(memory_mb=16384)),
        a_report(resources=some_resources(disk_available_least=7)),
    ):
        assert changed(node, each)[1] is None
    assert encode_delta(None) == NO_DELTA
    assert decode_delta(NO_DELTA) == Delta()


def test_role_change_is_a_release_and_an_addition() -> None:
    _, delta = changed(a_node(a_claim()), command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE))
    held = Holding(SMALL)
    assert delta is not None
    assert set(delta.claims) == {ClaimDelta(Role.INSTANCE, held), ClaimDelta(Role.OUTGOING, None, held)}


def test_audit_names_instances_and_reasons() -> None:
    audit = a_report([an_instance(flavor=a_flavor(vcpus=4))], [])
    _, delta = changed(a_node(a_claim(), a_claim(uuid=BYSTANDER)), audit)
    larger = Holding(Amounts(4, 2048, 20 * 1024))
    assert delta == Delta(
        (
            ClaimDelta(Role.INSTANCE, Holding(SMALL), larger, INSTANCE, "size_changed"),
            ClaimDelta(Role.INSTANCE, Holding(SMALL), None, BYSTANDER, "not_here"),
        )
    )


def test_report_has_old_and_new_totals_and_a_removal_the_released_claims() -> None:
    node, delta = changed(Node("node-1"), a_report())
    assert delta == Delta((), (None, TOTALS))
    node, _ = changed(node, command("instance_claim", instance=an_instance()))
    _, delta = changed(node, command("remove_node", force=True))
    assert delta == Delta((ClaimDelta(Role.INSTANCE, Holding(SMALL), None, INSTANCE),), (TOTALS, None))


@pytest.mark.parametrize(
    ("host", "now_held"),
    [
        (None, ()),
        (a_host(cells=1, pages=PAGES), ()),
        (a_host(), (HeldCell(1, 1024, 0, (12, 13), None),)),
        (a_host(dedicated=2, pages=PAGES), (HeldCell(1, 1024, 0, (12, 13), 4),)),
    ],
    ids=["no topology", "one cell", "no pages", "fewer cpus"],
)
def test_report_with_another_topology_changes_what_claims_hold_of_it(
    host: HostTopology | None, now_held: tuple[HeldCell, ...]
) -> None:
    pinned = holding(a_claim(), a_pinned_guest({1: (12, 13)}))
    node = a_numa_node(pinned, a_claim(uuid=BYSTANDER), host=a_host(pages=PAGES))
    after, delta = changed(node, a_report(resources=some_resources(numa_topology=host)))
    old = Holding(SMALL, cells=(HeldCell(1, 1024, 0, (12, 13), 4),))
    new = Holding(SMALL, cells=now_held)
    changes = () if old == new else (ClaimDelta(Role.INSTANCE, old, new, INSTANCE),)
    assert (delta or Delta()).claims == changes
    state = State(after)
    state.undo(delta or Delta(), None)
    assert held_cells(state) == held_cells(State(node))
    # A report that brings the topology back changes them again.
    back, delta = changed(after, a_report(resources=host_resources(a_host(pages=PAGES))))
    state = State(back)
    assert delta is None or state.difference(delta, None) is None
    state.undo(delta or Delta(), None)
    assert held_cells(state) == held_cells(State(after))


def test_holding_has_cells_and_devices() -> None:
    guest = a_pinned_guest({1: (12, 13)})
    claim = holding(a_claim(label=MOVE), guest, ["d1"])
    node = a_numa_node(claim, host=a_host(pages=PAGES))
    cell = HeldCell(1, 1024, 0, (12, 13), 4)
    assert holding_of(node, claim) == Holding(SMALL, MOVE, (cell,), ("d1",))
    assert held_cells(State(node)) == {1: HeldOfCell(1024, 0, [12, 13], {4: 262144})}
    assert HUGE_KB not in held_cells(State(node))[1].pages


def test_undone_events_return_to_the_first_state() -> None:
    node = Node("node-1")
    events = []
    for each in (
        a_report(),
        command("instance_claim", instance=an_instance()),
        command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE),
        command("drop_move_claim_at_source", instance_uuid=INSTANCE, migration_uuid=MOVE),
    ):
        node, delta = changed(node, each)
        events.append((delta or Delta(), instance_uuid_of(each), node))
    state = State(node)
    for delta, instance_uuid, after in reversed(events):
        assert (state.sequence, state.used) == (after.sequence, after.used)
        assert state.difference(delta, instance_uuid) is None
        state.undo(delta, instance_uuid)
    assert (state.sequence, state.totals, state.claims, state.used) == (0, None, {}, Amounts())


def test_state_that_an_event_did_not_leave_is_found() -> None:
    _, delta = changed(a_node(), command("instance_claim", instance=an_instance()))
    assert delta is not None
    changed_since = a_node(a_claim(flavor=a_flavor(vcpus=3)))
    assert INSTANCE in str(State(changed_since).difference(delta, INSTANCE))
    assert INSTANCE in str(State(a_node()).difference(delta, INSTANCE))
    totals = Delta(totals=(None, Totals(1, 1, 1, 0, 0, 0, 1.0, 1.0, 1.0)))
    assert "totals" in str(State(a_node()).difference(totals, None))
