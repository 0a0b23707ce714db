# SPDX-License-Identifier: Apache-2.0
"""Fit: the tests that `decide` makes of a claim, one by one, with what is requested and what is free.

Whether the claim would be granted is what `decide` says. The functions here are those that it tests with.
"""

from collections.abc import Iterator

from msgspec import Struct

from tracker_worker.domain.capacity import capacity_tests
from tracker_worker.domain.commands import InstanceClaim
from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.flavors import requested_amounts
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.numa.fitting import Misfit, fit_cells
from tracker_worker.domain.numa.topology import CellUsage
from tracker_worker.domain.objects import GuestCell, GuestTopology, NumaLimits, PciRequest
from tracker_worker.domain.pci.pools import free_devices
from tracker_worker.domain.pci.requests import suitable
from tracker_worker.domain.requests import wanted_claim
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.usage import cells_of, devices_of


class ClaimTest(Struct, frozen=True):
    """One test of a claim. `passed` is None if it is not made; `reason` is why the claim does not pass it."""

    rule: str
    subject: str
    requested: str
    free: str | None
    passed: bool | None
    reason: str | None = None


def claim_tests(node: Node, command: InstanceClaim, settings: TrackerSettings) -> Iterator[ClaimTest]:
    """Yield the tests of a claim on a tracked node, in the order of `decide`.

    All of them may pass and the claim be refused: each guest cell and each request is tested alone here.
    """
    try:
        wanted = wanted_claim(command, settings)
    except RequestRefused:
        return
    held = node.claim(wanted.instance_uuid, wanted.role)
    others = [claim for claim in node.held() if claim is not held]
    yield from _capacity(node, held, wanted, command, settings)
    if wanted.numa_request is not None:
        limits = None if command.limits is None else command.limits.numa_topology
        yield from _cells(cells_of(node, others), wanted.numa_request, limits)
    yield from _devices(node, others, wanted.pci_requests)


def _capacity(
    node: Node, held: Claim | None, wanted: Claim, command: InstanceClaim, settings: TrackerSettings
) -> Iterator[ClaimTest]:
    used = node.used.minus(held.amounts) if held is not None else node.used
    requested = requested_amounts(command.instance.flavor, wanted.volume_backed)
    for test in capacity_tests(
        node, used, wanted.amounts, requested, command.limits, settings.capacity_check
    ):
        yield ClaimTest(
            test.resource,
            "node",
            _amount(test.requested, test.unit),
            None if test.free is None else _amount(test.free, test.unit),
            None if test.free is None else test.reason is None,
            test.reason,
        )


def _amount(amount: float, unit: str) -> str:
    return f"{f'{amount:.2f}'.rstrip('0').rstrip('.')} {unit}"


def _cells(host: list[CellUsage], guest: GuestTopology, limits: NumaLimits | None) -> Iterator[ClaimTest]:
    """Yield a test for each guest cell on each host cell. Without host cells a guest is not placed."""
    for number, row in enumerate(fit_cells(host, guest, limits)):
        for usage, cell in zip(host, row, strict=True):
            misfit = cell if isinstance(cell, Misfit) else None
            yield ClaimTest(
                "numa",
                f"guest cell {number} on cell {usage.cell.id}",
                _wanted(guest.cells[number]),
                _free(usage),
                misfit is None,
                misfit and misfit.value,
            )


def _wanted(cell: GuestCell) -> str:
    parts = [f"{cell.memory} MB"]
    parts += [f"{len(cell.cpuset)} shared CPUs"] if cell.cpuset else []
    parts += [f"{len(cell.pcpuset)} dedicated CPUs"] if cell.pcpuset else []
    return ", ".join(parts)


def _free(usage: CellUsage) -> str:
    shared = len(usage.cell.cpuset)
    parts = [f"{usage.free_memory} MB", f"{usage.cpu_usage} of {shared} shared CPUs used"]
    parts += [f"{len(usage.free_pcpus)} dedicated CPUs"]
    parts += [f"{usage.free_pages(page)} pages of {page.size_kb} KiB" for page in usage.cell.mempages]
    return ", ".join(parts)


def _devices(node: Node, others: list[Claim], requests: tuple[PciRequest, ...]) -> Iterator[ClaimTest]:
    free = free_devices(devices_of(node, others))
    for request in requests:
        found = suitable(free, request, None)
        enough = found >= request.count
        subject = request.alias_name or request.request_id or "request"
        reason = None if enough else "not enough free devices that match"
        yield ClaimTest("pci", subject, f"{request.count} devices", f"{found} devices", enough, reason)
