# SPDX-License-Identifier: Apache-2.0
"""What the adapter hooks in Nova 34, in one table, and how it is put there.

A hook runs a tap around one method of Nova. Names and arguments of these methods are not an API: a new
release of Nova is tried first.
"""

from collections.abc import Callable
from typing import Any

from nova import objects
from nova.compute import manager, resource_tracker, rpcapi

from tracker_worker.nova import audit, manager_taps, replace, tap, worker_claims
from tracker_worker.nova.tapping import Tap, tapped, tapped_in_lock

TRACKER: dict[str, Callable[..., Tap]] = {
    "instance_claim": tap.instance_claim,
    "resize_claim": tap.resize_claim,
    "live_migration_claim": tap.live_migration_claim,
    "rebuild_claim": tap.rebuild_claim,
    "abort_instance_claim": tap.abort_instance_claim,
    "drop_move_claim": tap.drop_move_claim,
    "drop_move_claim_at_source": tap.drop_move_claim_at_source,
    "drop_move_claim_at_dest": tap.drop_move_claim_at_dest,
    "finish_evacuation": tap.finish_evacuation,
    "update_usage": tap.update_usage,
    "claim_pci_devices": tap.claim_pci_devices,
    "unclaim_pci_devices": tap.unclaim_pci_devices,
    "allocate_pci_devices_for_instance": tap.allocate_pci_devices_for_instance,
    "free_pci_device_allocations_for_instance": tap.free_pci_device_allocations_for_instance,
    "free_pci_device_claims_for_instance": tap.free_pci_device_claims_for_instance,
    "_update_available_resource": audit.update_available_resource,
}
"""Methods of ResourceTracker that hold Nova's lock."""

DECIDED_BY_THE_WORKER: dict[str, Callable[..., Tap]] = {
    "instance_claim": replace.claim,
    "resize_claim": replace.claim,
    "live_migration_claim": replace.claim,
    "rebuild_claim": replace.claim,
    "claim_pci_devices": replace.claim,
}
"""What `replace` hooks otherwise: the claim is made inside Nova's method."""

WRITTEN_BACK: dict[str, Callable[..., None]] = {"update_usage": replace.write_back_states}
"""What `replace` does not write back at once."""

PRE_CHECKS = ("_claim_from_pci_reqs", "_claim_pci_for_instance_vifs")
"""Methods of ComputeManager that claim devices for a live migration."""

TRACKER_UNLOCKED: dict[str, Callable[..., Tap]] = {
    "build_failed": tap.build_failed,
    "build_succeeded": tap.build_succeeded,
    "remove_node": tap.remove_node,
}

BESIDE_THE_TRACKER: tuple[tuple[type[Any], str, Callable[..., Tap]], ...] = (
    (manager.ComputeManager, "_finish_resize", manager_taps.finish_resize),
    (
        manager.ComputeManager,
        "_revert_instance_flavor_host_node",
        manager_taps.revert_instance_flavor_host_node,
    ),
    (
        manager.ComputeManager,
        "check_can_live_migrate_destination",
        manager_taps.check_can_live_migrate_destination,
    ),
    (manager.ComputeManager, "_post_live_migration", manager_taps.post_live_migration),
    (
        manager.ComputeManager,
        "_do_post_live_migration_at_destination",
        manager_taps.do_post_live_migration_at_destination,
    ),
    (manager.ComputeManager, "_destroy_evacuated_instances", manager_taps.destroy_evacuated_instances),
    (manager.ComputeManager, "_update_compute_provider_status", manager_taps.update_compute_provider_status),
    (manager.ComputeManager, "cleanup_host", manager_taps.cleanup_host),
    (rpcapi.ComputeAPI, "finish_resize", manager_taps.rpcapi_finish_resize),
    (
        rpcapi.ComputeAPI,
        "post_live_migration_at_destination",
        manager_taps.rpcapi_post_live_migration_at_destination,
    ),
)

READERS: tuple[tuple[type[Any], str, Callable[..., Tap]], ...] = (
    (objects.InstanceList, "get_by_host_and_node", audit.get_by_host_and_node),
    (objects.MigrationList, "get_in_progress_and_error", audit.get_in_progress_and_error),
)
"""Class methods by which an audit reads."""


def hook_tracker(tracker: type[Any]) -> None:
    """Put the taps around the methods that a class inherits from Nova's ResourceTracker."""
    for name, each in TRACKER.items():
        setattr(tracker, name, tapped_in_lock(getattr(tracker, name), each))
    _hook_unlocked(tracker)


def hook_replacing_tracker(tracker: type[Any]) -> None:
    """Put the taps around Nova's methods in ReplaceResourceTracker, and its claims in place of Nova's."""
    for name, each in (TRACKER | DECIDED_BY_THE_WORKER).items():
        write = WRITTEN_BACK.get(name, replace.write_back)
        setattr(tracker, name, replace.written_back_in_lock(getattr(tracker, name), each, write))
    _hook_unlocked(tracker)
    resource_tracker.claims = worker_claims
    for name in PRE_CHECKS:
        setattr(manager.ComputeManager, name, worker_claims.pre_check(getattr(manager.ComputeManager, name)))


def hook_nova() -> None:
    """Put the taps around the methods of Nova's other classes, once a process."""
    for owner, name, each in BESIDE_THE_TRACKER:
        setattr(owner, name, tapped(getattr(owner, name), each))
    for owner, name, each in READERS:
        setattr(owner, name, staticmethod(tapped(getattr(owner, name), each)))


def _hook_unlocked(tracker: type[Any]) -> None:
    for name, each in TRACKER_UNLOCKED.items():
        setattr(tracker, name, tapped(getattr(tracker, name), each))
