# SPDX-License-Identifier: Apache-2.0
"""Nova's ComputeNode.stats, computed from the claims at each read, so that they cannot drift.

Source: nova.compute.stats.Stats. Like Nova, they count tracked instances only: claims of role `instance`.
"""

from collections import Counter

from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Scalar

_IO_TASKS = (
    "rebuilding",
    "resize_prep",
    "resize_migrating",
    "image_snapshot",
    "image_backup",
    "rescuing",
    "unshelving",
)


def instance_claims(node: Node) -> list[Claim]:
    """Return the claims of role `instance`, which Nova counts as `running_vms`."""
    return [claim for held in node.claims.values() for claim in held if claim.role is Role.INSTANCE]


def stats_of(node: Node) -> dict[str, Scalar]:
    """Return the driver's stats and Nova's own, which take precedence."""
    running = instance_claims(node)
    counts: Counter[str] = Counter()
    for claim in running:
        counts[f"num_vm_{claim.vm_state}"] += 1
        counts[f"num_task_{claim.task_state}"] += 1
        counts[f"num_os_type_{claim.os_type}"] += 1
        counts[f"num_proj_{claim.project_id}"] += 1
    io_workload = counts["num_vm_building"] + sum(counts[f"num_task_{task}"] for task in _IO_TASKS)
    driver = node.resources.stats if node.resources and node.resources.stats else {}
    return {
        **driver,
        **{key: count for key, count in counts.items() if count},
        "num_instances": len(running),
        "io_workload": io_workload,
        "failed_builds": node.failed_builds,
    }


def current_workload(node: Node) -> int:
    """Return the number of instances with a task in progress."""
    return sum(claim.task_state is not None for claim in instance_claims(node))
