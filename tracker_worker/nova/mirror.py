# SPDX-License-Identifier: Apache-2.0
"""A tap that also compares the worker's node view with Nova's compute node after each audit."""

import logging
from typing import Any

from nova import objects

from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.nova import comparison
from tracker_worker.nova.calls import UNANSWERED, Calls
from tracker_worker.nova.cast_queue import Job
from tracker_worker.nova.conversion import Json
from tracker_worker.nova.mirror_log import MirrorLog
from tracker_worker.nova.tap import TapResourceTracker
from tracker_worker.rpcapi import TrackerAPI

LOG = logging.getLogger(__name__)

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
        self._before: dict[str, list[str]] = {}
        self._calls = Calls(self.casts)

    def after_audit(self, node: str) -> Job:
        """Compare the node with its view when the audit was applied; what Nova says of it is read now.

        An audit behind whose snapshot another thread has cast something is not compared.
        """
        compute_node = self.compute_nodes[node]
        in_json = compute_node.numa_topology
        topology = objects.NUMATopology.obj_from_db_obj(in_json) if in_json else None
        nova = comparison.seen(compute_node, topology)
        return lambda api: self._compare(api, node, nova)

    def _compare(self, api: TrackerAPI, node: str, nova: Json) -> None:
        view = self._view_of(api, node)
        if view is None:
            self._log.unanswered(node)
            return
        all_found = comparison.differences(nova, view)
        found = comparison.confirmed(all_found, self._before.get(node, []))
        self._before[node] = all_found
        self.audits_compared += 1
        self.differences_found += len(found)
        self.differences = [*self.differences, *(f"{node} {line}" for line in found)][-MOST_KEPT:]
        self._log.compared(node, found)

    def _view_of(self, api: TrackerAPI, node: str) -> Json | None:
        """Return the worker's view. While it does not answer, the casts behind this do not wait for it."""
        if self._calls.is_silent:
            return None
        try:
            return api.get_node({}, node)
        except UNANSWERED:
            self._calls.begin_probes(node)
        except TrackerWorkerException as error:
            LOG.info("The view of node %s is not there: %s", node, error)
        return None
