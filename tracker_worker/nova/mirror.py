# SPDX-License-Identifier: Apache-2.0
"""A tap that also compares the worker's node view with Nova's compute node after each audit."""

from typing import Any

from nova import objects
from oslo_messaging import MessagingTimeout

from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.nova import comparison
from tracker_worker.nova.cast_queue import Job
from tracker_worker.nova.conversion import Json
from tracker_worker.nova.mirror_log import MirrorLog
from tracker_worker.nova.tap import TapResourceTracker
from tracker_worker.rpcapi import TrackerAPI

MOST_KEPT = 1000


class MirrorResourceTracker(TapResourceTracker):
    """Reports where the worker differs from Nova, and never acts on it.

    `audits_compared` counts the comparisons, `differences_found` the fields that differed. `differences`
    has the last MOST_KEPT of these as lines "node field: value in Nova, value in the worker".
    """

    def __init__(self, host: str, driver: Any, reportclient: Any = None) -> None:
        super().__init__(host, driver, reportclient=reportclient)
        self._log = MirrorLog()
        self.audits_compared = 0
        self.differences_found = 0
        self.differences: list[str] = []

    def after_audit(self, node: str) -> Job:
        """Compare the node with its view when the audit was applied; what Nova says of it is read now."""
        compute_node = self.compute_nodes[node]
        in_json = compute_node.numa_topology
        topology = objects.NUMATopology.obj_from_db_obj(in_json) if in_json else None
        nova = comparison.seen(compute_node, topology)
        return lambda api: self._compare(api, node, nova)

    def _compare(self, api: TrackerAPI, node: str, nova: Json) -> None:
        try:
            view = api.get_node({}, node)
        except (TrackerWorkerException, MessagingTimeout):
            self._log.unanswered(node)
            return
        found = comparison.differences(nova, view)
        self.audits_compared += 1
        self.differences_found += len(found)
        self.differences = [*self.differences, *(f"{node} {line}" for line in found)][-MOST_KEPT:]
        self._log.compared(node, found)
