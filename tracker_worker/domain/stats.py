# SPDX-License-Identifier: Apache-2.0
"""Nova's ComputeNode.stats, from the counts of a node's claims.

Source: nova.compute.stats.Stats. Like Nova, they count tracked instances only: claims of role `instance`.
"""

from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Scalar


def stats_of(node: Node) -> dict[str, Scalar]:
    """Return the driver's stats and Nova's own, which take precedence. In the order of the keys."""
    counts = node.claims.counts
    driver = node.resources.stats if node.resources and node.resources.stats else {}
    return {
        **driver,
        **dict(sorted(counts.by_key.items())),
        "num_instances": counts.instances,
        "io_workload": counts.io_workload,
        "failed_builds": node.failed_builds,
    }
