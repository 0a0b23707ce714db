# SPDX-License-Identifier: Apache-2.0
"""Which claims should be on a node by the facts that an audit brings."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest

from tests.builders import (
    INSTANCE,
    MOVE,
    NODE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    a_report,
    an_instance,
    claims_of,
    decided,
)
from tests.unit.domain.auditing import NEW, OLD, a_move
from tracker_worker.domain.fields import TaskState, VmState
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.objects import Instance, Migration

OTHER = a_flavor(3, 3072, 30, id="3")
RESIZE_TASKS = {
    "resize_prep",
    "resize_migrating",
    "resize_migrated",
    "resize_finish",
    "rebuilding",
    "rebuild_block_device_mapping",
    "rebuild_spawning",
}


def moving(flavor: Any = OLD, task_state: TaskState | None = "resize_migrating", **more: Any) -> Instance:
    return an_instance(flavor=flavor, task_state=task_state, **more)


def resized(flavor: Any = NEW, **more: Any) -> Instance:
    return an_instance(flavor=flavor, vm_state="resized", **more)


def same_node(**more: Any) -> Migration:
    return a_move(source_node=NODE, **more)


def away(**more: Any) -> Migration:
    return a_move(source_node=NODE, dest_node="elsewhere", **more)


def audited(instances: list[Instance], migrations: list[Migration], node: Node | None = None) -> Node:
    after, _ = decided(node or a_node(), a_report(instances, migrations))
    assert_sum(after)
    return after


def sizes(node: Node) -> set[str]:
    """The instance's claims as `role label vcpus`: labels M and K for the moves, - for none."""
    labels = {None: "-", MOVE: "M", OTHER_MOVE: "K"}
    return {
        f"{role} {labels[claim.migration_uuid]} {claim.flavor.vcpus}"
        for role, claim in claims_of(node).items()
    }


SHOULD_BE = {
    "here and not moving": ([an_instance(flavor=OLD)], [], {"instance - 2"}),
    "same node, old flavor still": (
        [moving()],
        [same_node()],
        {"instance - 2", "incoming M 4"},
    ),
    "same node, old flavor still, flavors without ids": (
        [moving(a_flavor(2, 2048, 20))],
        [same_node(old_flavor=a_flavor(2, 2048, 20))],
        {"instance - 2", "incoming M 4"},
    ),
    "same node, new flavor already": (
        [moving(NEW, "resize_finish")],
        [same_node()],
        {"instance M 4", "outgoing - 2"},
    ),
    "same node, new flavor of the same numbers already": (
        [moving(a_flavor(2, 2048, 20, id="2"))],
        [same_node(new_flavor=a_flavor(2, 2048, 20, id="2"))],
        {"instance M 2", "outgoing - 2"},
    ),
    "same node, resized": ([resized()], [same_node()], {"instance M 4", "outgoing - 2"}),
    "same node, resized, old flavor gone": (
        [resized()],
        [same_node(old_flavor=None)],
        {"instance M 4"},
    ),
    "destination, not here": ([], [a_move(instance=moving())], {"incoming M 4"}),
    "destination, not here, evacuation": (
        [],
        [a_migration(type="evacuation", instance=moving(OTHER, "rebuild_spawning"))],
        {"incoming M 3"},
    ),
    "destination, not here, live migration": (
        [],
        [a_migration(type="live-migration", instance=moving(OTHER, "migrating"))],
        {"incoming M 3"},
    ),
    "destination, not here, cold migration": (
        [],
        [a_move(type="migration", new_flavor=OTHER, old_flavor=OTHER, instance=moving(OTHER))],
        {"incoming M 3"},
    ),
    "source, not here": ([], [away(instance=resized())], {"outgoing - 2"}),
    "source, not here, old flavor gone": ([], [away(old_flavor=None, instance=resized())], set()),
    "source, not here, old flavor gone, cold migration": (
        [],
        [away(type="migration", old_flavor=None, instance=resized())],
        set(),
    ),
    "here, going away": ([moving()], [away()], {"instance - 2"}),
    "here, going away live": (
        [moving(OTHER, "migrating")],
        [away(type="live-migration")],
        {"instance - 3"},
    ),
    "here, has come and is resized": ([resized()], [a_move()], {"instance M 4"}),
    "here, has come, resized to another flavor than the move says": (
        [resized(OTHER)],
        [a_move()],
        {"instance M 3"},
    ),
    "here, has come, not resized yet (bug 1953359)": (
        [moving(OLD, "resize_finish")],
        [a_move()],
        {"instance M 4"},
    ),
    "here, has come, not resized yet, no new flavor sent": (
        [moving(OLD, "resize_finish")],
        [a_move(new_flavor=None)],
        {"instance M 2"},
    ),
    "here, has come live": (
        [moving(OTHER, "migrating")],
        [a_migration(type="live-migration")],
        {"instance M 3"},
    ),
    "not here, moving between others": (
        [],
        [a_move(source_node="x", dest_node="y", instance=moving())],
        set(),
    ),
    "here, moving between others": (
        [moving()],
        [a_move(source_node="x", dest_node="y")],
        {"instance - 2"},
    ),
    "reverted and resize_reverting, source": (
        [],
        [away(status="reverted", instance=resized(task_state="resize_reverting"))],
        {"outgoing - 2"},
    ),
    "reverted and resize_reverting, destination, not here": (
        [],
        [a_move(status="reverted", instance=resized(task_state="resize_reverting"))],
        set(),
    ),
    "reverted and resize_reverting, destination, here": (
        [resized(task_state="resize_reverting")],
        [a_move(status="reverted")],
        set(),
    ),
    "reverted and resize_reverting, same node": (
        [resized(task_state="resize_reverting")],
        [same_node(status="reverted")],
        {"outgoing - 2"},
    ),
    "resize_reverting, not reverted yet, destination": (
        [resized(task_state="resize_reverting")],
        [a_move(status="reverting")],
        {"instance M 4"},
    ),
    "the one in `instances` is newer than the move's": (
        [resized(OTHER)],
        [a_move(instance=moving())],
        {"instance M 3"},
    ),
    "shelved and offloaded": ([an_instance(vm_state="shelved_offloaded")], [], set()),
    "shelved and offloaded, moving": ([an_instance(vm_state="deleted")], [a_move()], set()),
    "shelved and offloaded, spawning (bug 2025480)": (
        [an_instance(vm_state="shelved_offloaded", task_state="spawning")],
        [],
        {"instance - 2"},
    ),
    "deleted": ([an_instance(vm_state="deleted")], [], set()),
    "deleted in the database": ([an_instance(deleted=True)], [], set()),
    "deleted in the database, resized": ([resized(deleted=True)], [same_node()], set()),
}
HELD: dict[str, tuple[Claim, ...]] = {
    "nothing": (),
    "instance": (a_claim("instance", None, OLD),),
    "incoming": (a_claim("incoming", MOVE, NEW),),
    "outgoing": (a_claim("outgoing", None, OLD),),
    "both of a same-node move": (a_claim("instance", None, OLD), a_claim("incoming", MOVE, NEW)),
    "both, swapped": (a_claim("outgoing", None, OLD), a_claim("instance", MOVE, NEW)),
    "another's": (a_claim("incoming", OTHER_MOVE, OTHER),),
    "everything": (
        a_claim("instance", OTHER_MOVE, OTHER),
        a_claim("incoming", MOVE, OTHER),
        a_claim("outgoing", None, OTHER),
    ),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
@pytest.mark.parametrize(("instances", "migrations", "wanted"), SHOULD_BE.values(), ids=SHOULD_BE)
def test_the_facts_decide_which_claims_are_here(
    instances: list[Instance],
    migrations: list[Migration],
    wanted: set[str],
    held: tuple[Claim, ...],
) -> None:
    node = audited(instances, migrations, a_node(*held))
    found = sizes(node)
    if not held:
        assert found == wanted
    assert {tuple(c.split()[::2]) for c in found} == {tuple(c.split()[::2]) for c in wanted}
    again, decision = decided(node, a_report(instances, migrations))
    assert (decision.outcome, decision.changes, decision.effects) == ("ignored", (), ())
    assert again.claims == node.claims


@pytest.mark.parametrize("vm_state", get_args(VmState))
def test_move_counts_in_resize_states_and_while_live_migrating(vm_state: str) -> None:
    tasks = {*get_args(TaskState), None}
    counted = {
        task for task in tasks if sizes(audited([], [a_move(instance=moving(OLD, task, vm_state=vm_state))]))
    }
    resizing = {
        "resized": tasks,
        "active": RESIZE_TASKS | {"migrating"},
        "stopped": RESIZE_TASKS,
        "paused": {"migrating"},
    }
    assert counted == resizing.get(vm_state, set())


@pytest.mark.parametrize(
    "status",
    ["accepted", "confirmed", "done", "error", "failed", "finished", "pre-migrating", "reverted"],
)
def test_status_of_a_move_is_not_looked_at(status: str) -> None:
    node = audited([], [a_move(status=status, instance=moving())])
    assert sizes(node) == {"incoming M 4"}


def test_move_that_is_not_current_does_not_count() -> None:
    """Hazard 2 of the inventory: a stale migration to this node, and the instance moves elsewhere."""
    stale = a_move(current=False, instance=moving())
    assert sizes(audited([], [stale])) == set()
    assert sizes(audited([moving()], [stale])) == {"instance - 2"}
    assert sizes(audited([], [stale, away(uuid=OTHER_MOVE, instance=moving())])) == {"outgoing - 2"}


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER, LATER = NOON - timedelta(hours=1), NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"updated_at": EARLIER}, {"updated_at": NOON}),
        ({"created_at": EARLIER}, {"created_at": NOON}),
        ({"updated_at": EARLIER, "created_at": LATER}, {"updated_at": NOON, "created_at": EARLIER}),
        ({"updated_at": EARLIER}, {"created_at": NOON}),
        ({"created_at": EARLIER}, {"updated_at": NOON}),
        ({}, {"created_at": EARLIER}),
        ({"updated_at": EARLIER.replace(tzinfo=None)}, {"updated_at": NOON}),
        ({"updated_at": EARLIER}, {"updated_at": NOON.replace(tzinfo=None)}),
        ({"updated_at": EARLIER.replace(tzinfo=None)}, {"created_at": NOON.replace(tzinfo=None)}),
        (
            {"updated_at": datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=2)))},
            {"updated_at": NOON},
        ),
    ],
)
@pytest.mark.parametrize("in_order", [True, False])
def test_newest_move_of_an_instance_counts(
    older: dict[str, datetime], newer: dict[str, datetime], in_order: bool
) -> None:
    """By updated_at, else created_at; bug 1611458: one without a time is the oldest, not the newest."""
    old = a_move(uuid=OTHER_MOVE, new_flavor=OTHER, instance=moving(), **older)
    new = a_move(instance=moving(), **newer)
    node = audited([], [old, new] if in_order else [new, old])
    assert sizes(node) == {"incoming M 4"}


@pytest.mark.parametrize("type", ["live-migration", "evacuation"])
def test_move_that_no_confirm_ends_has_no_old_flavor_to_miss(type: str) -> None:
    """It changes no flavor: Nova counts the instance's own (_get_flavor)."""
    task: TaskState = "migrating" if type == "live-migration" else "rebuilding"
    left = away(type=type, old_flavor=None, new_flavor=None, instance=moving(OTHER, task))
    assert sizes(audited([], [left])) == {"outgoing - 3"}


def test_migrations_are_optional() -> None:
    node, _ = decided(a_node(), a_report([an_instance()], None))
    assert sizes(node) == {"instance - 2"}


def test_report_without_instances_is_no_audit() -> None:
    held = a_claim()
    node, decision = decided(a_node(held), a_report(None, [a_move(instance=moving())]))
    assert claims_of(node) == {"instance": held}
    assert decision.outcome == "ignored"


def test_audit_takes_everything_of_the_instance_over() -> None:
    instance = an_instance(
        flavor=a_flavor(1, 2, 3, ephemeral_gb=4, swap_mb=5, name="x", extra_specs={"hw:a": "b"}),
        volume_backed=True,
        project_id="p9",
        os_type="linux",
        vm_state="error",
        task_state="deleting",
    )
    assert claims_of(audited([instance], [])) == {
        "instance": Claim(
            instance_uuid=INSTANCE,
            role=a_claim().role,
            flavor=a_flavor(1, 2, 3, ephemeral_gb=4, swap_mb=5),
            volume_backed=True,
            project_id="p9",
            vm_state="error",
            os_type="linux",
            task_state="deleting",
        )
    }
