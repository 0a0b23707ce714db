# SPDX-License-Identifier: Apache-2.0
from oslo_config import cfg

from tracker_worker.testing import TrackerWorkerFixture


def build(tracker, context, node, instance, limits, spawn, save):
    with tracker.instance_claim(context, node, instance, limits=limits):
        spawn(instance)  # An exception aborts the claim.
        active = instance | {"vm_state": "active", "task_state": None}
        save(active)
    tracker.update_usage(context, node, active)


def audit(tracker, context, node, report, read):
    as_of = tracker.snapshot()
    instances = read(node)
    tracker.update_available_resource(context, node, report, instances=instances, as_of=as_of)


def spawn(instance):
    print("spawning", instance["uuid"])


def save(instance):
    database[instance["uuid"]] = instance


def read(node):
    return list(database.values())


database = {}
context = {"request_id": "req-1"}
report = {
    "uuid": "7c0e3f5a-5d0b-4f5e-9d5c-0a4f6f1f0c11",
    "host": "compute1",
    "vcpus": 8,
    "memory_mb": 16384,
    "local_gb": 100,
}
instance = {
    "uuid": "0d9a4f0e-94a6-4a3b-8d4f-2f6b1c7e5a21",
    "project_id": "demo",
    "vm_state": "building",
    "task_state": "spawning",
    "flavor": {"vcpus": 2, "memory_mb": 2048, "root_gb": 20},
}

with TrackerWorkerFixture(cfg.CONF) as worker:
    tracker = worker.api  # With a broker: TrackerAPI.from_conf(cfg.CONF)
    audit(tracker, context, "compute1", report, read)
    build(tracker, context, "compute1", instance, {"memory_mb": 16384}, spawn, save)
    print("MB used:", tracker.get_node(context, "compute1")["memory_mb_used"])
