# SPDX-License-Identifier: Apache-2.0
"""Who holds a node's PCI devices: in Nova, and in the worker. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracker_worker.nova.conversion import Json, given


def chosen_for(requests: Iterable[Json], devices: Iterable[Json]) -> list[list[str]]:
    """Return for each request the addresses of a claim's devices that are for it: these name its id."""
    by_request: dict[str | None, list[str]] = {}
    for device in devices:
        by_request.setdefault(device.get("request_id"), []).append(device["address"])
    return [by_request.get(request.get("request_id"), []) for request in requests]


def with_ids(requests: Iterable[Json]) -> list[Json]:
    """Return requests of one claim that all have an id. Older releases of Nova gave a flavor's none."""
    return [{"request_id": f"{number}", **request} for number, request in enumerate(requests)]


def held_for(requests: Iterable[Json], devices: Iterable[Any], uuid: str) -> list[Any]:
    """Return Nova's devices that an instance holds for some requests."""
    ids = {request.get("request_id") for request in requests}
    return [
        device
        for device in devices
        if given(device, "instance_uuid") == uuid and given(device, "request_id") in ids
    ]


def differing(view: Json, devices: Sequence[Any]) -> Iterator[tuple[str, Json]]:
    """Yield the commands, each with its arguments, that give instances in the worker the devices of Nova.

    They differ where Placement has chosen a device, a command was lost, or a grant came too late. Nova's
    guests run.
    """
    for args in taken(view, devices):
        yield "claim_pci_devices", args
    for args in freed(view, devices):
        yield "unclaim_pci_devices", args


def taken(view: Json, devices: Iterable[Any]) -> Iterator[Json]:
    """Yield arguments of claim_pci_devices for what Nova's devices have taken and the worker's view has not.

    Of instances with a claim in the view that is not outgoing. A request that differs is told whole.
    """
    claimed = {claim["instance_uuid"] for claim in view["claims"] if claim["role"] != "outgoing"}
    known = _holders(view)
    by_request: dict[tuple[str, str | None], list[str]] = {}
    for device in devices:
        uuid = given(device, "instance_uuid")
        if uuid in claimed:
            by_request.setdefault((uuid, given(device, "request_id")), []).append(device.address)
    for (uuid, request_id), addresses in by_request.items():
        if any(known.get(address) != uuid for address in addresses):
            request: Json = {"count": len(addresses), "spec": [{"address": each} for each in addresses]}
            request |= {} if request_id is None else {"request_id": request_id}
            yield {"instance_uuid": uuid, "pci_requests": [request], "pci_devices": addresses}


def freed(view: Json, devices: Iterable[Any]) -> Iterator[Json]:
    """Yield arguments of unclaim_pci_devices for what an instance holds in the view, and not in Nova."""
    known = _holders(view)
    by_instance: dict[str, list[str]] = {}
    for device in devices:
        holder = known.get(device.address)
        if holder is not None and holder != given(device, "instance_uuid"):
            by_instance.setdefault(holder, []).append(device.address)
    for uuid, addresses in by_instance.items():
        yield {"instance_uuid": uuid, "addresses": addresses}


def _holders(view: Json) -> dict[str, str]:
    """Return the instance of each device that one holds in the worker."""
    return {
        device["address"]: device["instance_uuid"]
        for device in view["pci_devices"]
        if "instance_uuid" in device
    }
