# SPDX-License-Identifier: Apache-2.0
"""Measures Nova's own tracker in a process of its own: what its claims and its audits take.

Runs in Nova's environment; `python -m tests.benchmarks.nova_tracker` starts it. Takes Nova's configuration
file as its argument and a line of JSON: {"node", "first", "warm", "events"}, the arguments of commands to
tracker-worker, of which it does the same. Writes a line of JSON: {"whole", "reads", "peak_bytes", "account"},
of which the first two are {"cpu_seconds", "seconds"}: of all events, and of READERS in them.

It is nova-compute's setup (native threads, the configured database) but for three things. Objects go to the
database directly, not through a conductor. The hypervisor is Nova's fake driver. Placement is `Placement`.
"""

# Chooses native threads, its default. They are refused if anything of oslo was imported before.
import nova.cmd.compute  # noqa: F401  # isort: skip

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest import mock

from oslo_log import log

from nova import conf, config, context, objects
from nova.compute import provider_tree, resource_tracker
from nova.db import migration
from nova.scheduler.client import report
from nova.virt import fake
from tests.nova.inside import instances

Json = dict[str, Any]

READERS = (
    (objects.InstanceList, "get_by_host_and_node"),
    (objects.MigrationList, "get_in_progress_and_error"),
)
"""How an audit reads what a message to tracker-worker has."""


class Placement:
    """Nova's report client, of which nothing is left but its copies of a provider that is up to date.

    The real one asks Placement for the allocations of every instance of the node, one by one, in each claim
    and in each audit.
    """

    def __init__(self) -> None:
        self._tree = provider_tree.ProviderTree()

    def get_provider_subtree_and_ensure_root(self, context: Any, uuid: str, name: str) -> Any:
        if not self._tree.exists(uuid):
            self._tree.new_root(name, uuid, generation=0)
        return self._tree.subtree(uuid)

    def update_from_provider_tree(self, context: Any, tree: Any, allocations: Any = None) -> None:
        self._tree = tree

    def get_allocations_for_provider_tree(self, context: Any, nodename: str) -> Json:
        return {}

    def get_allocations_for_resource_provider(self, context: Any, uuid: str) -> Any:
        return report.ProviderAllocInfo(allocations={})


class Compute:
    """A tracker of a node that holds these instances, after its first audits."""

    def __init__(self, node: str, held: Sequence[Json]) -> None:
        self._context = context.get_admin_context()
        self._node = node
        service = objects.Service(self._context, host=node, binary="nova-compute", topic="compute")
        service.create()
        driver = fake.FakeDriver(virtapi=None)
        driver.init_host(node)
        self._tracker = resource_tracker.ResourceTracker(node, driver, reportclient=Placement())
        self._tracker.set_service_ref(service)
        self._tracker.update_available_resource(self._context, node, startup=True)
        compute_id = self._tracker.compute_nodes[node].id
        for each in held:
            self._an_instance(each, host=node, node=node, compute_id=compute_id, launched_on=node)
        self._tracker.update_available_resource(self._context, node)

    def prepared(self, args: Json) -> Callable[[], object]:
        """Return the work of a command. The instance of a claim is in the database before it is claimed."""
        if "instance" not in args:
            return partial(self._tracker.update_available_resource, self._context, self._node)
        instance = self._an_instance(args["instance"])
        return partial(self._tracker.instance_claim, self._context, instance, self._node, {}, None)

    def account(self) -> dict[str, int]:
        """What the database says."""
        node = objects.ComputeNode.get_by_host_and_nodename(self._context, self._node, self._node)
        held = objects.InstanceList.get_by_host_and_node(self._context, self._node, self._node)
        return {
            "claims": len(held),
            "vcpus_used": node.vcpus_used,
            "memory_mb_used": node.memory_mb_used,
            "disk_mb_used": node.local_gb_used * 1024,
        }

    def _an_instance(self, given: Json, **more: Any) -> Any:
        sizes = {name: given["flavor"][name] for name in ("vcpus", "memory_mb", "root_gb")}
        same = {name: given[name] for name in ("uuid", "project_id", "vm_state", "task_state", "os_type")}
        return instances.an_instance(self._context, **sizes, **same, **more)


def set_up(file: str) -> None:
    """Do what nova-compute does before it starts its service, and make the tables."""
    config.parse_args(["nova-compute", "--config-file", file])
    log.setup(conf.CONF, "nova")
    objects.register_all()
    migration.db_sync(database="main")


class Meter:
    """What the calls of some functions take, user and system."""

    def __init__(self) -> None:
        self.cpu_seconds = self.seconds = 0.0

    def metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, and is counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            began, cpu = time.monotonic(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.cpu_seconds += time.process_time() - cpu
                self.seconds += time.monotonic() - began

        return counted


def measure(work: Sequence[Callable[[], object]]) -> Json:
    """Do the work one after the other; return what it took."""
    whole, reads = Meter(), Meter()
    with ExitStack() as stack:
        for owner, name in READERS:
            stack.enter_context(mock.patch.object(owner, name, reads.metered(getattr(owner, name))))
        for each in work:
            whole.metered(each)()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"whole": vars(whole), "reads": vars(reads), "peak_bytes": peak_bytes}


def main() -> None:
    """Measure one order."""
    order = json.loads(sys.stdin.readline())
    set_up(sys.argv[1])
    compute = Compute(order["node"], order["first"]["instances"])
    measure([compute.prepared(args) for args in order["warm"]])
    found = measure([compute.prepared(args) for args in order["events"]])
    print(json.dumps(found | {"account": compute.account()}))


if __name__ == "__main__":
    main()
