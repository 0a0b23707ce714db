# SPDX-License-Identifier: Apache-2.0
"""What the adapter uses of Nova's internals beside the hooked methods (hooks.py). Nova 34."""

from collections.abc import Sequence
from typing import Any


def context_of(instance: Any) -> Any:
    """Return the request's context with which an instance was read."""
    return instance._context


def loaded_instance(migration: Any) -> Any:
    """Return a migration's instance if Nova has loaded it. Migration.instance would query the database."""
    return getattr(migration, "_cached_instance", None)


def pool_keys(pci_tracker: Any, device: Any) -> dict[str, Any] | None:
    """Return the keys and tags of the pool that a device belongs to, None if no device_spec matches it."""
    keys: dict[str, Any] | None = pci_tracker.stats._create_pool_keys_from_dev(device)
    return keys


def are_free(pci_tracker: Any, addresses: Sequence[str]) -> bool:
    """Tell whether devices are in the pools of free ones."""
    return {device.address for device in pci_tracker.stats.get_free_devs()} >= set(addresses)


def hold_devices(pci_tracker: Any, addresses: Sequence[str], request: Any) -> list[Any]:
    """Take free devices out of their pools, as PciDeviceStats.consume_requests does."""
    free = {device.address: device for device in pci_tracker.stats.get_free_devs()}
    for address in addresses:
        pci_tracker.stats.remove_device(free[address])
        pci_tracker.stats._handle_device_dependents(free[address])
        free[address].request_id = request.request_id
    return [free[address] for address in addresses]


def release_devices(pci_tracker: Any, devices: Sequence[Any]) -> None:
    """Put devices back into their pools, as consume_requests does when it cannot meet all requests."""
    for device in devices:
        pci_tracker.stats.add_device(device)


def save_compute_node(tracker: Any, context: Any, compute_node: Any) -> None:
    """Save a compute node if it has changed (the second half of ResourceTracker._update)."""
    if tracker.pci_tracker:
        compute_node.pci_device_pools = tracker.pci_tracker.stats.to_device_pools_obj()
    if tracker._resource_change(compute_node):
        try:
            compute_node.save()
        except Exception:
            tracker.old_resources.pop(compute_node.hypervisor_hostname, None)
            raise


def to_json(topology: Any) -> Any:
    """Return a NUMATopology as ComputeNode keeps it."""
    return topology._to_json()
