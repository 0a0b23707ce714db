# SPDX-License-Identifier: Apache-2.0
"""The tap of Nova's audit: casts the node's resources, and the instances and migrations that Nova has read.

What the audit reads is converted where it is read, because the audit changes it afterwards.
"""

import threading
from collections.abc import Callable
from typing import Any

from nova import objects
from nova.conf import CONF

from tracker_worker.nova import conversion, report
from tracker_worker.nova.cast_queue import Job, Snapshot
from tracker_worker.nova.conversion import Json, given
from tracker_worker.nova.private_apis import loaded_instance, pool_keys
from tracker_worker.nova.tap import TapResourceTracker, plain
from tracker_worker.nova.tapping import Tap
from tracker_worker.rpcapi import TrackerAPI

_GONE = ("removed", "deleted")
_DISABLED = "COMPUTE_STATUS_DISABLED"
_RATIOS = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
_RESERVES = ("reserved_host_memory_mb", "reserved_host_disk_mb", "reserved_host_cpus")

_current = threading.local()


class _Reads:
    """What one audit reads: instances converted, migrations as pairs of an object and its conversion."""

    def __init__(self, tracker: TapResourceTracker) -> None:
        self.tracker = tracker
        self.instances: list[Json] | None = None
        self.migrations: list[tuple[Any, Json]] | None = None


def update_available_resource(
    tracker: TapResourceTracker, context: Any, resources: Json, startup: bool = False
) -> Tap:
    """A node was audited (ResourceTracker._update_available_resource).

    An audit that fails after it has read all is cast, too: Nova's fails when Placement does not answer. If it
    fails before Nova has given the migrations their instances, it is cast as a report of the resources.
    """
    if startup:
        tracker.starting.add(resources["hypervisor_hostname"])
    snapshot = tracker.casts.snapshot()
    driver_view = dict(resources)  # Nova takes the devices out.
    reads = _current.reads = _Reads(tracker)
    has_failed = True
    try:
        yield
        has_failed = False
    finally:
        _current.reads = None
        if not has_failed:
            _cast(tracker, context, driver_view, reads, snapshot, tracker.after_audit)
        elif reads.migrations is not None:
            if not _is_paired(reads):
                reads.instances = None
            _cast(tracker, context, driver_view, reads, snapshot, _nothing_after)


def _nothing_after(node: str) -> Job:
    return lambda api: None


def _cast(
    tracker: TapResourceTracker,
    context: Any,
    driver_view: Json,
    reads: _Reads,
    snapshot: Snapshot,
    after: Callable[[str], Job],
) -> None:
    """Queue what the audit has read; `after` makes the job that follows it. Runs in Nova's lock."""
    node = driver_view["hypervisor_hostname"]
    if node not in tracker.compute_nodes:
        return
    reported = _resources(tracker, node, driver_view)
    disabled = _DISABLED in reported.get("traits", ())
    instances = None if reads.instances is None else _held(tracker, node, reads.instances)
    migrations = None if reads.instances is None else _migrations(reads, node)
    request, then = plain(context), after(node)

    def send(api: TrackerAPI, first: bool) -> None:
        # Casts between the two are newer than the snapshot: the audit leaves their instances as they are.
        covers_all = tracker.casts.ended == snapshot.ended + 1
        api.update_available_resource(
            request,
            node,
            reported,
            instances=instances,
            migrations=migrations,
            as_of=snapshot.as_of,
            startup=first,
            disabled=disabled,
        )
        if covers_all:
            then(api)

    tracker.casts.audit(node, send, node in tracker.starting)
    if migrations is not None:
        tracker.starting.discard(node)
        tracker.audited(node, {migration["instance_uuid"] for migration in migrations})


def get_by_host_and_node(*args: Any, **kwargs: Any) -> Tap:
    """An audit has read its instances (InstanceList.get_by_host_and_node)."""
    instances = yield
    reads = getattr(_current, "reads", None)
    if reads is not None:
        reads.instances = [reads.tracker.converted(instance) for instance in instances]


def get_in_progress_and_error(*args: Any, **kwargs: Any) -> Tap:
    """An audit has read its migrations (MigrationList.get_in_progress_and_error)."""
    migrations = yield
    reads = getattr(_current, "reads", None)
    if reads is not None:
        reads.migrations = [
            (each, conversion.migration(each, old_flavor=None, new_flavor=None)) for each in migrations
        ]


def _resources(tracker: TapResourceTracker, node: str, driver_view: Json) -> Json:
    in_json = driver_view.get("numa_topology")
    topology = objects.NUMATopology.obj_from_db_obj(in_json) if in_json else None
    ratios = {name: getattr(tracker, name) for name in _RATIOS if getattr(tracker, name)}
    options = {**ratios, **{name: getattr(CONF, name) for name in _RESERVES}}
    available = not tracker.disabled(node)
    reported = report.resources(driver_view, tracker.host, topology, available=available, options=options)
    devices = tracker.pci_tracker_of(node)
    if devices is not None:
        reported["pci_devices"] = [
            conversion.pci_device(device, pool)
            for device in devices.pci_devs
            if device.status not in _GONE and (pool := pool_keys(devices, device)) is not None
        ]
    tree = tracker.provider_tree
    if tree is not None and tree.exists(node):
        reported |= report.provider(tree.data(node))
    return reported


def _held(tracker: TapResourceTracker, node: str, instances: list[Json]) -> list[Json]:
    """Return the instances with the devices that they hold on this node, where Nova tracks its devices."""
    if tracker.pci_tracker_of(node) is None:
        return instances
    return [instance | {"pci_devices": tracker.held(instance["uuid"], node)} for instance in instances]


def _devices_of_move(tracker: TapResourceTracker, node: str, migration: Any) -> Json:
    """Return the devices that a move between nodes has here. Of a move within a node Nova tells no end's."""
    source, dest = given(migration, "source_node"), given(migration, "dest_node")
    if source == dest or node not in (source, dest) or tracker.pci_tracker_of(node) is None:
        return {}
    end = "old_pci_devices" if source == node else "new_pci_devices"
    return {end: tracker.held(migration.instance_uuid, node)}


def _is_paired(reads: _Reads) -> bool:
    """Tell whether Nova has given each migration its instance where it has read both.

    A migration without its flavors would release the claims of an instance that is here.
    """
    here = {instance["uuid"] for instance in reads.instances or ()}
    return all(loaded_instance(each) for each, _ in reads.migrations or () if each.instance_uuid in here)


def _migrations(reads: _Reads, node: str) -> list[Json]:
    """Return the migrations, with the instances that are elsewhere as Nova has loaded them meanwhile."""
    here, migrations = {instance["uuid"] for instance in reads.instances or ()}, reads.migrations or ()
    loaded = {each.instance_uuid: found for each, _ in migrations if (found := loaded_instance(each))}
    return [
        converted | _of_instance(reads.tracker, node, each, loaded.get(each.instance_uuid), here)
        for each, converted in migrations
    ]


def _of_instance(
    tracker: TapResourceTracker, node: str, migration: Any, instance: Any, here: set[str]
) -> Json:
    """Return what a migration's instance says of it; nothing if Nova has not loaded the instance."""
    if given(instance, "flavor") is None:
        return {}
    context = given(instance, "migration_context")
    current = context is None or context.migration_id == migration.id
    old, new = instance.flavor, instance.flavor
    if migration.is_resize:
        old, new = given(instance, "old_flavor"), given(instance, "new_flavor")
    topologies = {name: given(context, name) for name in ("old_numa_topology", "new_numa_topology")}
    said: Json = {
        "current": current,
        **{
            name: conversion.flavor(each) for name, each in (("old_flavor", old), ("new_flavor", new)) if each
        },
        **{name: conversion.numa_topology(each) for name, each in topologies.items() if current and each},
        **_devices_of_move(tracker, node, migration),
    }
    if instance.uuid not in here:
        (said["instance"],) = _held(tracker, node, [tracker.converted(instance)])
    return said
