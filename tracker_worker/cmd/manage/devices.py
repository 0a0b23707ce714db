# SPDX-License-Identifier: Apache-2.0
"""`device show`: who holds a PCI device."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple, replace
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.every_node import selected
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.core.claim_origins import device_origin
from tracker_worker.core.history import StoredEvent
from tracker_worker.db import receipt_queries
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import PciDevice
from tracker_worker.domain.pci.pools import TrackedDevice
from tracker_worker.domain.usage import devices_of

_KEY = ("node", "address", "instance_uuid")


class Found(Struct, frozen=True):
    """A device of a node. `instance_uuid` and `role` are those of the claim that holds it.

    `excluded_by`: held devices that exclude it, its parent or its children. `since` and what follows is the
    event that gave it to the claim; None if no instance holds it, or if the event's receipt is not kept.
    """

    node: str
    address: str
    status: str
    device: str | None
    numa_node: int | None
    instance_uuid: str | None
    role: str | None
    excluded_by: list[str]
    since: datetime | None = None
    method: str | None = None
    event_id: str | None = None
    request_id: str | None = None


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show who holds a PCI device, since when, and by which event."""
    found: list[tuple[Found, Claim | None]] = []
    for nodes, unreadable in selected(conf, args.name_of_node, "searching"):
        for node in nodes.values():
            found += _on_node(node, args.address)
        for name, why in unreadable.items():
            print_diagnostic(f"node '{name}' is left out: {why}")
    if not found:
        where = "any tracked node" if args.name_of_node is None else f"node '{args.name_of_node}'"
        raise CommandFailed(f"device '{args.address}' is neither reported nor held on {where}")
    with snapshot(conf) as connection:
        devices = [
            _with_origin(device, claim, receipt_queries.sequenced(connection, device.node))
            for device, claim in found
        ]
    if args.format != TABLE:
        print_document(devices, args.format)
    else:
        print_rows(Found.__struct_fields__, map(astuple, devices), keep=_KEY)
    return 0


def _on_node(node: Node, address: str) -> Iterator[tuple[Found, Claim | None]]:
    """Yield the device of a node that has this address, with the claim that holds it."""
    claims = list(node.held())
    tracked = devices_of(node, claims)
    for each in tracked:
        if each.address == address:
            holders = (claim for claim in claims for held in claim.pci_devices if held.address == address)
            claim, device = next(holders, None), each.device
            yield (
                Found(
                    node=node.name,
                    address=address,
                    status=each.status.value,
                    device=None if device is None else _kind(device),
                    numa_node=None if device is None else device.numa_node,
                    instance_uuid=each.instance_uuid,
                    role=None if claim is None else claim.role.value,
                    excluded_by=[] if claim else [other.address for other in _held_relatives(each, tracked)],
                ),
                claim,
            )


def _kind(device: PciDevice) -> str:
    return f"{device.vendor_id}:{device.product_id} {device.dev_type.value}"


def _held_relatives(device: TrackedDevice, tracked: list[TrackedDevice]) -> Iterator[TrackedDevice]:
    parent = device.device and device.device.parent_addr
    for other in tracked:
        of_other = other.device and other.device.parent_addr
        if other.instance_uuid is not None and (other.address == parent or of_other == device.address):
            yield other


def _with_origin(device: Found, claim: Claim | None, events: Iterator[StoredEvent]) -> Found:
    if claim is None:
        return device
    event = device_origin(events, claim.instance_uuid, device.address)
    if event is None:
        return device
    return replace(
        device,
        since=event.recorded_at,
        method=event.method,
        event_id=event.event_id,
        request_id=event.request_id,
    )
