# SPDX-License-Identifier: Apache-2.0
"""Nova's PCI devices that an instance takes: those that the worker has chosen for it, where Nova can."""

import logging
from collections.abc import Callable
from typing import Any

from nova import exception

from tracker_worker.nova.private_apis import are_free, hold_devices, release_devices

LOG = logging.getLogger(__name__)


def take(
    pci_tracker: Any,
    chosen: list[list[str]],
    novas_choice: Callable[..., list[Any]],
    requests: Any,
    numa_cells: Any,
) -> list[Any]:
    """Take for each request the devices chosen for it, or those of Nova's choice. Runs in Nova's lock.

    `chosen` has addresses for each request; of another length it is for other requests. Raises
    PciDeviceRequestFailed, and has taken nothing then.
    """
    if len(chosen) != len(requests):
        chosen = [[] for _ in requests]
    taken: list[Any] = []
    try:
        for request, addresses in zip(requests, chosen, strict=True):
            if _takes(pci_tracker, addresses, request):
                taken += hold_devices(pci_tracker, addresses, request)
            else:
                taken += novas_choice([request], numa_cells)
    except exception.PciDeviceRequestFailed:
        release_devices(pci_tracker, taken)
        raise
    return taken


def _takes(pci_tracker: Any, addresses: list[str], request: Any) -> bool:
    """Tell whether a request gets these devices: Nova's rules stay for what Placement has chosen, and where
    one of them is not free in Nova.
    """
    if len(addresses) < request.count or any(spec.get("rp_uuids") for spec in request.spec):
        return False
    if are_free(pci_tracker, addresses):
        return True
    LOG.warning("Devices %s are not free in Nova, which chooses others", ", ".join(addresses))
    return False
