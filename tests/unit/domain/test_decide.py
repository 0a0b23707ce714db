# SPDX-License-Identifier: Apache-2.0
"""decide: a worked example of a move, removal of nodes, builds, service status, origins."""

from typing import Any

import pytest

from tests.builders import (
    BYSTANDER,
    HOST,
    INSTANCE,
    MOVE,
    NODE,
    NODE_UUID,
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
)
from tracker_worker.domain.commands import METHODS, AnyCommand
from tracker_worker.domain.decision import NodeDeleted
from tracker_worker.domain.fields import TaskState, VmState
from tracker_worker.domain.node import Node, NodeRemoved, evolve
from tracker_worker.domain.objects import Limits, Origin, PciRequest
from tracker_worker.domain.origins import OriginRecorded
from tracker_worker.domain.views import usage_view

ORIGIN = Origin("client-1", 5)
CLAIMS = ("instance_claim", "resize_claim", "live_migration_claim", "rebuild_claim", "claim_pci_devices")
NO_INSTANCE = ("build_failed", "build_succeeded", "set_service_status", "remove_node")


def any_command(method: str, **more: Any) -> AnyCommand:
    """A command of each method but get_node, about the builders' instance."""
    if method == "update_available_resource":
        return a_report(**more)
    values = {
        "instance": an_instance(),
        "instance_uuid": INSTANCE,
        "migration": a_migration(),
        "flavor": a_flavor(),
        "disabled": True,
    }
    if method == "claim_pci_devices":
        values["pci_requests"] = [PciRequest(1, [{"vendor_id": "8086"}])]
    if METHODS[method].__name__ in ("StartMove", "FinishRevertMove") or "drop_move_claim_at" in method:
        values["migration_uuid"] = MOVE
    fields = METHODS[method].__struct_fields__
    arguments: dict[str, Any] = {k: v for k, v in values.items() if k in fields}
    return command(method, **arguments, **more)


def test_worked_example_of_the_design() -> None:
    """8 vcpus, 16384 MB, 100 GB, reserved 512 MB; used is vcpus/memory MB/local GB."""
    small, large = a_flavor(2, 2048, 20), a_flavor(4, 4096, 40)
    resized = an_instance(flavor=large, vm_state="resized")
    steps = [
        (a_report(), "0/512/0"),
        (command("instance_claim", instance=an_instance(flavor=small)), "2/2560/20"),
        (
            command(
                "resize_claim",
                instance=an_instance(flavor=small),
                flavor=large,
                migration=a_migration(),
            ),
            "6/6656/60",
        ),
        (command("finish_move", instance=resized, migration_uuid=MOVE), "6/6656/60"),
        (
            command("drop_move_claim_at_source", instance_uuid=INSTANCE, migration_uuid=MOVE),
            "4/4608/40",
        ),
        (
            command("update_usage", instance=an_instance(flavor=large, vm_state="deleted")),
            "0/512/0",
        ),
    ]
    node = Node(NODE)
    for each, used in steps:
        node, decision = decided(node, each)
        assert decision.outcome in ("applied", "granted")
        view = usage_view(node)
        shown = f"{view['vcpus_used']}/{view['memory_mb_used']}/{view['local_gb_used']}"
        assert shown == used, each


def test_swap_does_not_drift() -> None:
    """Nova truncates at each step: three aborted boots end at -1 GB."""
    boot = command("instance_claim", instance=an_instance(flavor=a_flavor(swap_mb=512)))
    node = after(a_node(), *[boot, command("abort_instance_claim", instance_uuid=INSTANCE)] * 3)
    assert node.used == a_node().used


@pytest.mark.parametrize("claim", ["resize_claim", "live_migration_claim", "rebuild_claim"])
def test_instance_that_has_just_landed_can_be_deleted_at_once(claim: str) -> None:
    """Nova ignores the delete until its next audit."""
    finish = command("finish_move", instance=an_instance(), migration_uuid=MOVE)
    delete = command("update_usage", instance=an_instance(vm_state="deleted"))
    node = after(a_node(), any_command(claim), finish)
    assert claims_of(node).keys() == {"instance"}
    assert after(node, delete).used == a_node().used


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("host", [None, HOST])
def test_node_without_claims_is_removed(host: str | None, force: bool) -> None:
    before = a_node(disabled=True, failed_builds=3, conflicts=("u",), last_origins={INSTANCE: ORIGIN})
    node, decision = decided(before, command("remove_node", host=host, force=force))
    assert (decision.outcome, decision.changes) == ("applied", (NodeRemoved(),))
    assert decision.effects == (NodeDeleted(NODE_UUID, HOST),)
    assert not node.tracked
    assert (dict(node.claims), node.last_origins, node.conflicts) == ({}, {}, ())
    assert (node.disabled, node.failed_builds) == (False, 0)
    assert node.sequence == 1, "a removed node keeps its row and its sequence"


def test_node_with_claims_is_not_removed_without_force() -> None:
    before = a_node(a_claim(), a_claim(uuid=BYSTANDER))
    node, decision = decided(before, command("remove_node"))
    assert (decision.outcome, decision.changes, decision.effects) == ("refused", (), ())
    assert "2" in (decision.reason or "")
    assert (node.claims, node.tracked) == (before.claims, True)


def test_node_with_claims_is_removed_by_force() -> None:
    node, decision = decided(a_node(a_claim()), command("remove_node", force=True))
    assert decision.outcome == "applied"
    assert (dict(node.claims), node.used.vcpus, node.used.memory_mb) == ({}, 0, 0)


@pytest.mark.parametrize("force", [True, False])
def test_node_of_another_host_is_not_removed(force: bool) -> None:
    """A rebalanced node: the host that it left must not take it away from the new one."""
    node, decision = decided(a_node(), command("remove_node", host="host-9", force=force))
    assert (decision.outcome, node.tracked) == ("ignored", True)
    assert HOST in (decision.reason or "")


def test_removed_node_starts_anew_with_the_next_report() -> None:
    node, _ = decided(a_node(a_claim()), command("remove_node", force=True))
    node, decision = decided(node, a_report([]))
    assert decision.outcome == "applied"
    assert (node.used.vcpus, node.used.memory_mb, node.sequence) == (0, 512, 2)


def test_failed_builds_are_counted_and_forgotten() -> None:
    node = a_node()
    for count in (1, 2, 3):
        node, decision = decided(node, command("build_failed"))
        assert (decision.outcome, node.failed_builds) == ("applied", count)
    node, decision = decided(node, command("build_succeeded"))
    assert (decision.outcome, node.failed_builds) == ("applied", 0)
    _, decision = decided(node, command("build_succeeded"))
    assert (decision.outcome, decision.changes) == ("ignored", ())


@pytest.mark.parametrize("disabled", [True, False])
def test_service_status_is_set_once(disabled: bool) -> None:
    asked = command("set_service_status", disabled=disabled)
    node, decision = decided(a_node(disabled=not disabled), asked)
    assert (decision.outcome, node.disabled) == ("applied", disabled)
    _, decision = decided(node, asked)
    assert (decision.outcome, decision.changes) == ("ignored", ())


@pytest.mark.parametrize("node", [Node(NODE), evolve(a_node(), [NodeRemoved()])])
@pytest.mark.parametrize(
    "method", sorted(METHODS.keys() - {"get_node", "update_available_resource", *CLAIMS})
)
def test_node_that_is_not_tracked_ignores_all_but_claims_and_reports(method: str, node: Node) -> None:
    _, decision = decided(node, any_command(method))
    assert (decision.outcome, decision.changes, decision.effects) == ("ignored", (), ())
    assert NODE in (decision.reason or "")


@pytest.mark.parametrize(
    "method", sorted(METHODS.keys() - {"get_node", "update_available_resource", *NO_INSTANCE})
)
@pytest.mark.parametrize("before", [a_node(), Node(NODE)], ids=["tracked", "unknown"])
def test_event_of_an_instance_leaves_its_origin(method: str, before: Node) -> None:
    """Whatever came of it: a release, a refusal, and an event that changed nothing, too."""
    node, decision = decided(before, any_command(method, origin=ORIGIN))
    assert node.last_origins == {INSTANCE: ORIGIN}
    assert decision.marks == (OriginRecorded(INSTANCE, ORIGIN),)
    node, _ = decided(node, any_command(method, origin=Origin("client-2", 1)))
    assert node.last_origins == {INSTANCE: Origin("client-2", 1)}
    node, _ = decided(node, any_command(method))
    assert node.last_origins == {INSTANCE: Origin("client-2", 1)}


@pytest.mark.parametrize("method", NO_INSTANCE)
def test_event_of_the_node_touches_no_instance(method: str) -> None:
    node, _ = decided(a_node(), any_command(method, origin=ORIGIN))
    assert node.last_origins == {}


def test_refused_claim_leaves_its_origin() -> None:
    full = command("instance_claim", instance=an_instance(), limits=Limits(vcpu=0), origin=ORIGIN)
    node, decision = decided(a_node(), full)
    assert (decision.outcome, node.last_origins) == ("refused", {INSTANCE: ORIGIN})


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"get_node"}))
def test_every_event_takes_the_next_sequence_number(method: str) -> None:
    node, _ = decided(a_node(sequence=41), any_command(method))
    assert node.sequence == 42


@pytest.mark.parametrize(
    ("vm_state", "task_state", "deleted", "stays"),
    [
        ("deleted", None, False, False),
        ("deleted", "deleting", False, False),
        ("active", None, True, False),
        ("shelved_offloaded", None, False, False),
        ("shelved_offloaded", "unshelving", False, False),
        ("shelved_offloaded", "spawning", False, True),
        ("error", None, False, True),
        ("soft-delete", None, False, True),
        ("stopped", None, False, True),
        ("shelved", "shelving_offloading", False, True),
        ("paused", None, False, True),
        ("suspended", None, False, True),
        ("rescued", None, False, True),
    ],
)
def test_only_removable_instances_let_go(
    vm_state: VmState, task_state: TaskState | None, deleted: bool, stays: bool
) -> None:
    """Nova's allow_resource_removal; bug 2025480: an unshelving instance keeps its claim."""
    instance = an_instance(vm_state=vm_state, task_state=task_state, deleted=deleted)
    node, decision = decided(a_node(a_claim()), command("update_usage", instance=instance))
    assert decision.outcome == "applied"
    assert bool(claims_of(node)) == stays


def test_update_usage_never_changes_the_size() -> None:
    grown = an_instance(flavor=a_flavor(99), volume_backed=True)
    node, decision = decided(a_node(a_claim()), command("update_usage", instance=grown))
    assert (decision.outcome, claims_of(node)) == ("ignored", {"instance": a_claim()})
