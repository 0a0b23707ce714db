# SPDX-License-Identifier: Apache-2.0
"""What the adapter uses of Nova's internals beside the hooked methods (hooks.py). Nova 34."""

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
