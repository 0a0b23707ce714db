# SPDX-License-Identifier: Apache-2.0
"""Nova's stats of a node: its keys, what counts in them, and that they follow the claims at once."""

import pytest

from tests.builders import MOVE, a_claim, a_node, after, an_instance, command, some_resources
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.stats import stats_of
from tracker_worker.domain.views import usage_view

NONE_RUNNING = {"num_instances": 0, "io_workload": 0, "failed_builds": 0}


def test_empty_node_has_no_counters_of_instances() -> None:
    assert stats_of(a_node()) == NONE_RUNNING


def test_instances_are_counted_by_state_task_system_and_project() -> None:
    node = a_node(
        a_claim(uuid="1", os_type="linux"),
        a_claim(uuid="2", vm_state="stopped", project_id="p2"),
        a_claim(uuid="3", vm_state="building", task_state="spawning", os_type="linux"),
    )
    assert stats_of(node) == {
        "num_instances": 3,
        "num_vm_active": 1,
        "num_vm_stopped": 1,
        "num_vm_building": 1,
        "num_task_None": 2,
        "num_task_spawning": 1,
        "num_os_type_linux": 2,
        "num_os_type_None": 1,
        "num_proj_project-1": 2,
        "num_proj_p2": 1,
        "io_workload": 1,
        "failed_builds": 0,
    }


@pytest.mark.parametrize("role", ["incoming", "outgoing"])
def test_claims_of_moves_are_not_running(role: str) -> None:
    node = a_node(a_claim(role, MOVE, task_state="resize_prep"))
    assert stats_of(node) == NONE_RUNNING
    assert (usage_view(node)["current_workload"], usage_view(node)["running_vms"]) == (0, 0)


@pytest.mark.parametrize(
    ("claim", "io_workload"),
    [
        (a_claim(vm_state="building", task_state="spawning"), 1),
        (a_claim(vm_state="building"), 1),
        (a_claim(task_state="rebuilding"), 1),
        (a_claim(task_state="resize_prep"), 1),
        (a_claim(task_state="resize_migrating"), 1),
        (a_claim(task_state="image_snapshot"), 1),
        (a_claim(task_state="image_backup"), 1),
        (a_claim(task_state="rescuing"), 1),
        (a_claim(task_state="unshelving"), 1),
        (a_claim(vm_state="building", task_state="rebuilding"), 2),
        (a_claim(task_state="resize_finish"), 0),
        (a_claim(task_state="migrating"), 0),
        (a_claim(task_state="powering-off"), 0),
        (a_claim(vm_state="error"), 0),
    ],
)
def test_io_workload_is_novas(claim: Claim, io_workload: int) -> None:
    """Source: nova.compute.stats.Stats.io_workload: building instances plus seven tasks."""
    assert stats_of(a_node(claim))["io_workload"] == io_workload


def test_current_workload_counts_tasks_under_way() -> None:
    node = a_node(
        a_claim(uuid="1"),
        a_claim(uuid="2", task_state="spawning"),
        a_claim(uuid="3", task_state="deleting"),
        a_claim("outgoing", uuid="4", task_state="resize_prep"),
    )
    assert usage_view(node)["current_workload"] == 2


def test_what_the_driver_sent_is_kept_and_novas_keys_win() -> None:
    sent = {"cpu_arch": "x86_64", "uptime": None, "num_instances": 99, "failed_builds": 99}
    node = a_node(a_claim(), resources=some_resources(stats=sent), failed_builds=2)
    stats = stats_of(node)
    assert (stats["cpu_arch"], stats["uptime"]) == ("x86_64", None)
    assert (stats["num_instances"], stats["failed_builds"]) == (1, 2)


def test_finished_move_counts_at_once() -> None:
    """Nova counts it at the next audit only."""
    node = a_node(a_claim("incoming", MOVE))
    landed = an_instance(vm_state="resized")
    node = after(node, command("finish_move", instance=landed, migration_uuid=MOVE))
    assert (stats_of(node)["num_instances"], stats_of(node)["num_vm_resized"]) == (1, 1)


def test_changed_state_moves_its_counters() -> None:
    node = after(a_node(a_claim()), command("update_usage", instance=an_instance(vm_state="paused")))
    stats = stats_of(node)
    assert stats["num_vm_paused"] == 1
    assert "num_vm_active" not in stats
    assert stats["num_instances"] == 1
