# SPDX-License-Identifier: Apache-2.0
"""Moves with pins and devices: old and new are kept apart, and each end gives back exactly what was its.

Every way ends with nothing held: then the node is the first one again.
"""

from typing import Any

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    NODE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_report,
    an_instance,
    claims_of,
    command,
    decided,
)
from tests.topologies import (
    DEDICATED,
    GPU,
    HUGE_KB,
    PAGES,
    WITH_ALIASES,
    WITH_GPU,
    a_card,
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_pinned_guest,
    a_port,
    a_request,
    has,
    held,
    holding,
    host_resources,
    memory_on,
    pages_on,
    pinned_on,
    placed,
    statuses_of,
)
from tests.unit.domain.claiming import asks, attach
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.objects import Instance, Migration
from tracker_worker.domain.views import node_view

ASKS = DEDICATED | WITH_GPU | {"hw:mem_page_size": "2048"}
OLD = a_flavor(2, 512, 20, extra_specs=ASKS, id="old")
NEW = a_flavor(3, 1024, 40, extra_specs=ASKS, id="new")
DEVICES = [a_device("gpu1", **GPU), a_device("gpu2", **GPU), *a_card("pf", ("vf1", "vf2"))]
HOST = a_host(2, dedicated=5, pages=PAGES)
EMPTY = a_numa_node(host=HOST, devices=DEVICES)
SAME_NODE = a_migration(source_node=NODE, old_flavor=OLD, new_flavor=NEW)


def events(node: Node, *commands: AnyCommand) -> Node:
    """The node after commands, each of which changes it."""
    for each in commands:
        node, decision = decided(node, each, WITH_ALIASES)
        assert decision.outcome in ("granted", "applied"), decision.reason
        assert decision.changes
        assert_sum(node)
    return node


def ignored(node: Node, asked: AnyCommand) -> bool:
    """Whether a command does nothing any more."""
    after, decision = decided(node, asked, WITH_ALIASES)
    assert after.claims == node.claims
    return decision.outcome == "ignored"


def shown(node: Node) -> dict[str, Any]:
    """Everything that is shown of a node but the number of its events."""
    return {key: value for key, value in node_view(node).items() if key != "sequence"}


def boot(flavor: Any = OLD, **of: Any) -> AnyCommand:
    return command("instance_claim", instance=an_instance(flavor=flavor, **of))


def resize(instance: Instance | None = None, migration: Migration = SAME_NODE) -> AnyCommand:
    moving = instance or an_instance(flavor=OLD)
    return command("resize_claim", instance=moving, flavor=NEW, migration=migration)


def finish(flavor: Any = NEW, migration_uuid: str | None = MOVE, **of: Any) -> AnyCommand:
    instance = an_instance(flavor=flavor, **of)
    return command("finish_move", instance=instance, migration_uuid=migration_uuid)


START = command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE)
CONFIRM = command("drop_move_claim_at_source", instance_uuid=INSTANCE, migration_uuid=MOVE)
REVERT = command("drop_move_claim_at_dest", instance_uuid=INSTANCE, migration_uuid=MOVE)
ROLL_BACK = command("drop_move_claim", instance_uuid=INSTANCE, migration_uuid=MOVE)
BACK = command("finish_revert_move", instance=an_instance(flavor=OLD), migration_uuid=MOVE)
DELETE = command("update_usage", instance=an_instance(flavor=OLD, vm_state="deleted"))
ABORT = command("abort_instance_claim", instance_uuid=INSTANCE)

OLD_HAS = ({0: [2, 3]}, ["gpu1"])
NEW_HAS = ({1: [12, 13, 14]}, ["gpu2"])


# A resize on one host


def test_resize_on_one_host_keeps_old_and_new_apart() -> None:
    """The new cpus are others than the old ones until the move ends, and so are pages and devices."""
    node = events(EMPTY, boot(), resize())
    assert held(node) == {"instance": OLD_HAS, "incoming": NEW_HAS}
    assert pinned_on(node) == {0: [2, 3], 1: [12, 13, 14]}
    assert (memory_on(node), pages_on(node)) == ({0: 512, 1: 1024}, {0: 256, 1: 512})
    landed = events(node, finish())
    assert held(landed) == {"outgoing": OLD_HAS, "instance": NEW_HAS}
    assert pinned_on(landed) == pinned_on(node)
    assert (memory_on(landed), statuses_of(landed)) == (memory_on(node), statuses_of(node))


WAYS = {
    "confirmed": ([finish(), CONFIRM], {"instance": NEW_HAS}),
    "confirmed with its source's event": ([START, finish(), CONFIRM], {"instance": NEW_HAS}),
    "reverted": ([finish(), REVERT, BACK], {"instance": OLD_HAS}),
    "reverted before it landed": ([START, REVERT], {"instance": OLD_HAS}),
    "rolled back": ([ROLL_BACK], {"instance": OLD_HAS}),
}


@pytest.mark.parametrize(("way", "left"), WAYS.values(), ids=WAYS)
def test_end_of_a_move_gives_back_exactly_what_was_its(way: list[AnyCommand], left: dict[str, Any]) -> None:
    node = events(EMPTY, boot(), resize())
    for each in way:
        node, _ = decided(node, each, WITH_ALIASES)
    assert held(node) == left
    ((pins, devices),) = left.values()
    assert {cell: cpus for cell, cpus in pinned_on(node).items() if cpus} == pins
    assert [address for address, status in statuses_of(node).items() if status == "allocated"] == devices
    for each in way[-1:]:
        assert ignored(node, each), "an end that is repeated gives back nothing more"
    assert shown(events(node, DELETE)) == shown(EMPTY)


def test_after_a_confirm_the_old_cpus_are_anybodys() -> None:
    node = events(EMPTY, boot(), resize(), finish(), CONFIRM)
    other = command("instance_claim", instance=an_instance(BYSTANDER, OLD))
    node = events(node, other)
    assert has(claims_of(node, BYSTANDER)["instance"]) == OLD_HAS
    assert held(node) == {"instance": NEW_HAS}


def test_resize_that_is_claimed_twice_takes_no_second_room() -> None:
    """Hazard 5 of the Nova inventory."""
    once = events(EMPTY, boot(), resize())
    for again in (boot(), resize()):
        twice, decision = decided(once, again, WITH_ALIASES)
        assert (decision.outcome, decision.changes, twice.claims) == ("granted", (), once.claims)


def test_audit_in_the_window_of_a_resize_on_one_host_changes_nothing() -> None:
    """Hazard 1 of the Nova inventory: there the old cpus are freed, and somebody else gets them."""
    preparing = an_instance(
        flavor=OLD,
        task_state="resize_prep",
        numa_topology=a_pinned_guest({0: [2, 3]}),
        pci_devices=["gpu1"],
    )
    node = events(EMPTY, boot(), resize(preparing))
    report = a_report([preparing], [SAME_NODE], resources=host_resources(HOST, DEVICES))
    after, decision = decided(node, report, WITH_ALIASES)
    assert decision.effects == ()
    assert held(after) == {"instance": OLD_HAS, "incoming": NEW_HAS}
    other = command("instance_claim", instance=an_instance(BYSTANDER, NEW))
    _, decision = decided(after, other, WITH_ALIASES)
    assert decision.reason, "no cell has three free cpus and there is no third gpu"


def test_second_resize_goes_round_the_first_ones_cpus() -> None:
    node = events(EMPTY, boot(), resize(), finish(), CONFIRM)
    migration = a_migration(OTHER_MOVE, source_node=NODE)
    back = command("resize_claim", instance=an_instance(flavor=NEW), flavor=OLD, migration=migration)
    node = events(node, back)
    assert held(node) == {"instance": NEW_HAS, "incoming": OLD_HAS}


# Two hosts

THERE = placed(a_guest(1, 2, 512, pagesize=HUGE_KB), {5: [50, 51]})
"""Where the instance is on its other host."""


def coming(method: str, **more: Any) -> AnyCommand:
    """An instance that is somewhere else comes here by a move of any kind."""
    flavor = OLD if method != "resize_claim" else a_flavor()
    instance = an_instance(flavor=flavor, numa_topology=THERE, pci_devices=["far"])
    return asks(method, OLD, instance, **more)


@pytest.mark.parametrize("method", ["resize_claim", "rebuild_claim"])
def test_landing_keeps_what_the_claim_of_the_move_took(method: str) -> None:
    """The instance still tells of where it was: its pins there mean nothing here."""
    node = events(EMPTY, coming(method))
    assert held(node) == {"incoming": OLD_HAS}
    landed = events(node, finish(OLD, numa_topology=THERE, pci_devices=["far"]))
    assert held(landed) == {"instance": OLD_HAS}
    assert (memory_on(landed), pages_on(landed)) == (memory_on(node), pages_on(node))
    assert shown(events(landed, DELETE)) == shown(EMPTY)


def test_evacuated_instance_counts_once() -> None:
    """Bug 1896463: devices were tracked twice once the move ended."""
    node = events(EMPTY, coming("rebuild_claim"), finish(OLD))
    assert held(node) == {"instance": OLD_HAS}
    assert ignored(node, finish(OLD))
    assert ignored(node, CONFIRM), "the source's event does not reach what landed here"


@pytest.mark.parametrize("event", [ROLL_BACK, REVERT, DELETE])
@pytest.mark.parametrize("method", ["resize_claim", "rebuild_claim", "live_migration_claim"])
def test_move_that_fails_gives_back_all_that_it_took(method: str, event: AnyCommand) -> None:
    assert shown(events(EMPTY, coming(method), event)) == shown(EMPTY)


@pytest.mark.parametrize("end", [CONFIRM, DELETE])
def test_source_keeps_pins_and_devices_until_the_end(end: AnyCommand) -> None:
    node = events(EMPTY, boot(), START)
    assert held(node) == {"outgoing": OLD_HAS}
    assert pinned_on(node) == {0: [2, 3], 1: []}
    assert shown(events(node, end)) == shown(EMPTY)


def test_source_has_its_pins_and_devices_back_after_a_revert() -> None:
    before = events(EMPTY, boot())
    assert shown(events(before, START, BACK)) == shown(before)


ALLOCATE = command("allocate_pci_devices", instance_uuid=INSTANCE)
FREE = command("unclaim_pci_devices", instance_uuid=INSTANCE)
TO_HERE = coming("live_migration_claim", pci_requests=[a_port()])


def test_live_migration_takes_its_devices_when_they_are_claimed() -> None:
    node = events(EMPTY, TO_HERE)
    assert held(node) == {"incoming": ({0: [2, 3]}, [])}
    node = events(node, attach())
    assert held(node) == {"incoming": ({0: [2, 3]}, ["vf2"])}
    assert statuses_of(node)["vf2"] == "claimed"
    node = events(node, ALLOCATE, finish(OLD))
    assert held(node) == {"instance": ({0: [2, 3]}, ["vf2"])}
    assert statuses_of(node) == {
        "gpu1": "available",
        "gpu2": "available",
        "pf": "unavailable",
        "vf1": "available",
        "vf2": "allocated",
    }
    assert shown(events(node, DELETE)) == shown(EMPTY)


@pytest.mark.parametrize("roll_back", [[FREE, ROLL_BACK], [ROLL_BACK]])
def test_live_migration_that_rolls_back_gives_back_its_devices(roll_back: list[AnyCommand]) -> None:
    assert shown(events(EMPTY, TO_HERE, attach(), *roll_back)) == shown(EMPTY)


@pytest.mark.parametrize("leaves", [[FREE, CONFIRM], [CONFIRM]])
def test_live_migration_away_frees_everything(leaves: list[AnyCommand]) -> None:
    assert shown(events(EMPTY, boot(), *leaves)) == shown(EMPTY)


def test_live_migration_of_a_plain_instance_has_devices_alone_until_it_lands() -> None:
    plain = a_flavor()
    node = events(EMPTY, attach(), ALLOCATE, finish(plain))
    assert held(node) == {"instance": ({}, ["vf2"])}
    assert shown(events(node, DELETE)) == shown(EMPTY)
    assert shown(events(EMPTY, attach(), FREE)) == shown(EMPTY)


# What landed without a claim


def test_instance_that_lands_untested_has_what_it_reports() -> None:
    reported: dict[str, Any] = {"numa_topology": a_pinned_guest({0: [4, 5]}), "pci_devices": ["vf1"]}
    node = events(EMPTY, finish(OLD, **reported))
    assert held(node) == {"instance": ({0: [4, 5]}, ["vf1"])}
    assert not claims_of(node)["instance"].assigned
    assert shown(events(node, DELETE)) == shown(EMPTY)


@pytest.mark.parametrize("reported", [{}, {"numa_topology": a_pinned_guest({0: [4, 5]}), "pci_devices": []}])
def test_instance_that_lands_where_it_is_keeps_what_the_worker_chose(reported: dict[str, Any]) -> None:
    """An audit has seen it here before its landing was told."""
    node = events(EMPTY, boot(), finish(OLD, OTHER_MOVE, **reported))
    claim = claims_of(node)["instance"]
    assert (has(claim), claim.assigned, claim.migration_uuid) == (OLD_HAS, True, OTHER_MOVE)
    assert ignored(node, finish(OLD, OTHER_MOVE, **reported))


def test_instance_that_lands_where_it_is_keeps_the_devices_that_were_attached() -> None:
    node = events(EMPTY, attach(), ALLOCATE)
    node, _ = decided(node, a_report([an_instance(flavor=a_flavor())], [], resources=EMPTY.resources))
    assert held(node) == {"instance": ({}, ["vf2"])}
    node = events(node, finish(a_flavor(), pci_devices=None))
    assert held(node) == {"instance": ({}, ["vf2"])}
    assert statuses_of(node)["vf2"] == "allocated"


def test_instance_that_lands_where_it_is_in_another_size_has_the_topology_that_it_reports() -> None:
    reported: dict[str, Any] = {"numa_topology": a_pinned_guest({0: [4, 5, 6]})}
    node = events(EMPTY, boot(), finish(NEW, OTHER_MOVE, **reported))
    claim = claims_of(node)["instance"]
    assert (has(claim), claim.assigned) == (({0: [4, 5, 6]}, ["gpu1"]), False)
    node = events(EMPTY, boot(), finish(NEW, OTHER_MOVE, pci_devices=["gpu2"], **reported))
    assert held(node) == {"instance": ({0: [4, 5, 6]}, ["gpu2"])}


def test_instance_that_lands_where_it_was_adopted_has_what_it_reports() -> None:
    node = events(EMPTY, finish(OLD, MOVE, numa_topology=a_pinned_guest({0: [4, 5]}), pci_devices=["vf1"]))
    again = {"numa_topology": a_pinned_guest({1: [14, 15]}), "pci_devices": ["vf2"]}
    node = events(node, finish(OLD, OTHER_MOVE, **again))
    assert held(node) == {"instance": ({1: [14, 15]}, ["vf2"])}


def test_instance_that_comes_back_untested_has_what_it_reports() -> None:
    back = an_instance(numa_topology=a_pinned_guest({0: [4, 5]}), pci_devices=["vf1"])
    node = events(EMPTY, command("finish_revert_move", instance=back, migration_uuid=MOVE))
    assert held(node) == {"instance": ({0: [4, 5]}, ["vf1"])}


# States, boots


def test_changed_states_change_neither_pins_nor_devices() -> None:
    node = events(EMPTY, boot())
    stopped = command("update_usage", instance=an_instance(flavor=NEW, vm_state="stopped"))
    assert held(events(node, stopped)) == {"instance": OLD_HAS}


@pytest.mark.parametrize("end", [ABORT, DELETE])
def test_boot_that_ends_gives_back_everything(end: AnyCommand) -> None:
    node = events(EMPTY, boot(numa_topology=a_guest(2, 2, 512, pagesize=HUGE_KB)))
    assert pages_on(node) == {0: 256, 1: 256}
    assert shown(events(node, end)) == shown(EMPTY)


def test_two_guests_and_every_device_come_and_go() -> None:
    other = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [4, 5]}), ["gpu2", "pf"])
    with_other = a_numa_node(other, host=HOST, devices=DEVICES)
    busy = events(with_other, boot(a_flavor(2, 512, extra_specs=ASKS)))
    assert held(busy) == {"instance": ({1: [12, 13]}, ["gpu1"])}
    assert shown(events(busy, DELETE)) == shown(with_other)
    gone = command("update_usage", instance=an_instance(BYSTANDER, vm_state="deleted"))
    assert shown(events(busy, DELETE, gone)) == shown(EMPTY)


def test_repeated_attachment_takes_no_second_device() -> None:
    """Hazard 5 of the Nova inventory."""
    node = events(EMPTY, boot(), attach(a_request(request_id="a", dev_type="type-VF")))
    _, decision = decided(node, attach(a_request(request_id="a", dev_type="type-VF")), WITH_ALIASES)
    assert (decision.outcome, decision.changes) == ("granted", ())
