# SPDX-License-Identifier: Apache-2.0
"""What a claim keeps when its instance is reported: the CPUs and devices that this worker chose."""

from collections.abc import Sequence

from msgspec.structs import replace

from tracker_worker.domain.flavors import same_numbers
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.pci.pools import HeldDevice


def keep_assigned(held: Claim, known: Claim, reported: Sequence[HeldDevice] | None) -> Claim:
    """Merge the reported claim with the stored one.

    The request, and assignments made by this worker (but not inferred ones), are kept. If the size differs,
    only devices are kept, and only where none are reported: `reported` is None then.
    """
    if not same_numbers(held.flavor, known.flavor):
        if reported is not None:
            return known
        return replace(known, pci_requests=held.pci_requests, pci_devices=held.pci_devices)
    if held.assigned or known.numa_topology in (None, held.numa_topology):
        known = replace(known, numa_request=held.numa_request, numa_topology=held.numa_topology)
    return replace(
        known,
        pci_requests=held.pci_requests,
        pci_devices=kept_devices(held, reported),
        assigned=held.assigned,
    )


def kept_devices(held: Claim, reported: Sequence[HeldDevice] | None) -> tuple[HeldDevice, ...]:
    """Return the devices of a claim that stays: those that this worker chose, then the other reported ones.

    A held device that is reported stays as it is. Other reported devices replace the tentative ones that are
    not reported, and take over their requests. `reported` None: all held devices stay.
    """
    had = held.pci_devices
    chosen = [device for device in had if not device.tentative]
    if reported is None or (chosen and len(chosen) == len(had)):
        return had
    known = {device.address for device in reported}
    kept = [device for device in had if device in chosen or device.address in known]
    addresses = {device.address for device in kept}
    others = [device for device in reported if device.address not in addresses]
    # The facts may predate the last choice: add no more devices than were reported or held.
    others = others[: max(len(reported), len(had)) - len(kept)]
    guesses = [device.request_id for device in had if device not in kept]
    requests = [*guesses, *[None] * len(others)]
    named = [replace(device, request_id=id) for device, id in zip(others, requests, strict=False)]
    return (*kept, *named)
