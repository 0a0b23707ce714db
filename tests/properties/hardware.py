# SPDX-License-Identifier: Apache-2.0
"""Host cells and devices: what a node must show of them by its claims, and what a claim may have of them.

This is no model of a ledger: the rules choose the cpus, cells and devices, and these checks say whether the
choice is right. They read plain JSON, reports as they were sent and claims as they are shown, and nothing of
the worker's rules. Sums of vcpus, memory and disk are the ledger model's.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.ledger_model import Amounts, Json, total
from tests.properties.hosts import ANY, LARGE, PINNED, SMALL

Devices = dict[str, Json | None]

CHILDREN = ("type-VF", "vdpa")
NETWORK = ("type-PF", *CHILDREN)
SHOWN = ("vendor_id", "product_id", "dev_type", "numa_node")
FIELDS = (*SHOWN, "address", "parent_addr", "label")


def known(device: Json) -> Json:
    """A reported device with all its fields; -1 is no numa node."""
    blank = dict.fromkeys((*FIELDS, "tags"))
    numa_node = device.get("numa_node")
    return {**blank, **device, "numa_node": None if numa_node == -1 else numa_node}


def tags_of(device: Json) -> Json:
    tags = dict(device["tags"] or {})
    if device["dev_type"] in NETWORK:
        tags["remote_managed"] = tags.get("remote_managed") or "false"
    return tags


def parent_of(device: Json | None) -> str | None:
    return device["parent_addr"] if device and device["dev_type"] in CHILDREN else None


def cells_of(claim: Json) -> list[Json]:
    return claim["numa_topology"]["cells"] if claim["numa_topology"] else []


def host_cells(report: Json) -> dict[int, Json]:
    return {cell["id"]: cell for cell in (report.get("numa_topology") or {"cells": []})["cells"]}


def own_cpus(cell: Json) -> list[int]:
    """The host cpus that a guest cell has for itself, without those that `isolate` leaves idle."""
    if cell.get("cpu_policy") not in PINNED:
        return []
    return [*cell.get("cpu_pinning", {}).values(), *cell.get("cpuset_reserved", [])]


def idle_cpus(cell: Json, host: Json) -> set[int]:
    """The siblings of a guest cell's cpus that no guest may have."""
    own = set(own_cpus(cell))
    if cell.get("cpu_thread_policy") != "isolate":
        return set()
    return {cpu for core in host["siblings"] if own & set(core) for cpu in core} - own


def page_size(cell: Json, host: Json) -> int | None:
    """The pages that a guest cell's memory is in: the smallest where it does not say."""
    size = cell.get("pagesize")
    if size is None or size < 0:
        sizes: list[int] = [page["size_kb"] for page in host["mempages"]]
        return min(sizes, default=None)
    return int(size)


def kept_pages(report: Json, cell: int, page: Json) -> int:
    if page.get("reserved") is not None:
        return int(page["reserved"])
    given = report.get("reserved_huge_pages") or []
    return sum(r["count"] for r in given if (r["node"], r["size_kb"]) == (cell, page["size_kb"]))


# What a node shows.


def amounts_shown(claim: Json) -> Amounts:
    """What a claim says that it counts for."""
    return Amounts(claim["vcpus"], claim["memory_mb"], claim["disk_mb"])


def sums_are_right(view: Json, report: Json, claims: list[Json]) -> None:
    reserve = Amounts(report["reserved_host_cpus"], report["reserved_host_memory_mb"])
    used = total([reserve, *map(amounts_shown, claims)])
    assert (view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"]) == used.shown
    assert view["free_ram_mb"] == report["memory_mb"] - used.memory_mb


def cells_are_right(view: Json, report: Json, claims: list[Json]) -> None:
    """Usage of each host cell is what its guests add up to."""
    hosts = host_cells(report)
    shown = {cell["id"]: cell for cell in (view["numa_topology"] or {"cells": []})["cells"]}
    assert (view["numa_topology"] is None) == (report.get("numa_topology") is None)
    assert shown.keys() == hosts.keys()
    for id, host in hosts.items():
        guests = [cell for claim in claims for cell in cells_of(claim) if cell["id"] == id]
        pinned = {cpu for guest in guests for cpu in {*own_cpus(guest), *idle_cpus(guest, host)}}
        pages: Counter[int | None] = Counter()
        for guest in guests:
            size = page_size(guest, host)
            pages[size] += -(-guest["memory"] * 1024 // size) if size else 0
        cell = shown[id]
        assert cell["memory_usage"] == sum(guest["memory"] for guest in guests)
        assert cell["cpu_usage"] == sum(len(guest["cpuset"]) for guest in guests)
        assert cell["pinned_cpus"] == sorted(pinned)
        assert cell["mempages"] == [
            {
                "size_kb": page["size_kb"],
                "total": page["total"],
                "used": pages[page["size_kb"]],
                "reserved": kept_pages(report, id, page),
            }
            for page in host["mempages"]
        ]


def statuses(claims: list[Json], devices: Devices) -> dict[str, Json]:
    """What is shown of each device: its status at its first owner, or one caused by claimed relatives."""
    owners: dict[str, tuple[str, str]] = {}
    for claim in claims:
        for device in claim["pci_devices"]:
            owners.setdefault(device["address"], (claim["instance_uuid"], device["status"]))
    relatives: dict[str, set[str]] = {}
    for address, device in devices.items():
        parent = parent_of(device)
        for one, other in ((address, parent), (parent, address)):
            if one in owners and other is not None:
                relatives.setdefault(other, set()).add(owners[one][1])
    shown: dict[str, Json] = {}
    for address in devices:
        shown[address] = {"address": address, "status": "available"}
        if address in owners:
            uuid, status = owners[address]
            shown[address] |= {"status": status, "instance_uuid": uuid}
        elif address in relatives:
            taken = "allocated" in relatives[address]
            shown[address]["status"] = "unavailable" if taken else "unclaimable"
    return shown


def devices_are_right(view: Json, claims: list[Json], devices: Devices) -> None:
    expected = statuses(claims, devices)
    shown = {device["address"]: device for device in view["pci_devices"]}
    assert len(shown) == len(view["pci_devices"])
    assert shown == expected
    pools = {pool_key(known(pool)): pool["count"] for pool in view["pci_device_pools"]}
    assert len(pools) == len(view["pci_device_pools"])
    free: Counter[tuple[Any, ...]] = Counter()
    for address, device in devices.items():
        if device is not None:
            free[pool_key(device)] += expected[address]["status"] == "available"
    assert pools == dict(free)


def pool_key(device: Json) -> tuple[Any, ...]:
    tags = tuple(sorted(tags_of(device).items(), key=str))
    return (*(device[field] for field in (*SHOWN, "parent_addr")), tags)


# What no two claims may have, as long as this worker has decided all of them.


def cpus_are_pinned_once(report: Json, claims: list[Json]) -> None:
    for id, host in host_cells(report).items():
        guests = [cell for claim in claims for cell in cells_of(claim) if cell["id"] == id]
        own = [cpu for guest in guests for cpu in own_cpus(guest)]
        assert len(own) == len(set(own)), f"pinned twice: {sorted(own)}"
        assert set(own) <= set(host["pcpuset"])
        for guest in guests:
            others = set(own) - set(own_cpus(guest))
            assert not idle_cpus(guest, host) & others, f"beside an isolated guest: {own_cpus(guest)}"


def memory_suffices(report: Json, claims: list[Json]) -> None:
    """Guests with a page size or dedicated cpus fit beside the reserved pages. The others may over-commit
    what is left, but no guest is larger than its cell.
    """
    for id, host in host_cells(report).items():
        guests = [cell for claim in claims for cell in cells_of(claim) if cell["id"] == id]
        sizes = {page["size_kb"] for page in host["mempages"]}
        assert {guest["pagesize"] for guest in guests if "pagesize" in guest} <= sizes
        own = [guest for guest in guests if "pagesize" in guest or guest.get("cpu_policy") in PINNED]
        for page in host["mempages"]:
            size = page["size_kb"]
            asking = [guest["memory"] * 1024 for guest in guests if page_size(guest, host) == size]
            assert all(memory % size == 0 and memory <= page["total"] * size for memory in asking)
            used = sum(guest["memory"] * 1024 // size for guest in own if page_size(guest, host) == size)
            assert not used or used + kept_pages(report, id, page) <= page["total"]
        if not sizes:
            assert sum(guest["memory"] for guest in own) <= host["memory"]
            assert all(guest["memory"] <= host["memory"] for guest in guests)


def devices_are_owned_once(claims: list[Json], devices: Devices) -> None:
    held = [device["address"] for claim in claims for device in claim["pci_devices"]]
    assert len(held) == len(set(held)), f"owned twice: {sorted(held)}"
    parents = {parent_of(devices[address]) for address in held}
    assert not parents & set(held), f"taken with a child: {sorted(parents & set(held), key=str)}"


def is_free(report: Json, claim: Json, others: list[Json], devices: Devices) -> bool:
    """Whether no other claim has any cpu or device of a claim; `devices` are those without it."""
    hosts = host_cells(report)
    for cell in cells_of(claim):
        if cell["id"] in hosts and cell.get("cpu_policy") in PINNED:
            host = hosts[cell["id"]]
            guests = [guest for other in others for guest in cells_of(other) if guest["id"] == cell["id"]]
            taken = {cpu for guest in guests for cpu in {*own_cpus(guest), *idle_cpus(guest, host)}}
            if not {*own_cpus(cell), *idle_cpus(cell, host)} <= set(host["pcpuset"]) - taken:
                return False
    shown = statuses(others, devices)
    free = {address for address, device in shown.items() if device["status"] == "available"}
    return {device["address"] for device in claim["pci_devices"]} <= free


# What a claim was granted.


def topology_is_as_asked(claim: Json, asked: Json | None, report: Json) -> None:
    """Every cell of the guest is on a host cell of its own, with all its cpus and pages."""
    hosts = host_cells(report)
    if asked is None or not hosts:
        assert claim["numa_topology"] is None
        return
    got = claim["numa_topology"]
    assert got.get("emulator_threads_policy") == asked.get("emulator_threads_policy")
    ids = [cell["id"] for cell in got["cells"]]
    assert len(ids) == len(set(ids)) == len(asked["cells"])
    isolated = asked.get("emulator_threads_policy") == "isolate"
    for number, (cell, wanted) in enumerate(zip(got["cells"], asked["cells"], strict=True)):
        for key in ("cpuset", "pcpuset", "memory", "cpu_policy", "cpu_thread_policy"):
            assert cell.get(key) == wanted.get(key)
        page_is_as_asked(cell.get("pagesize"), wanted.get("pagesize"), hosts[cell["id"]])
        cpus_are_as_asked(cell, int(isolated and not number), hosts[cell["id"]])


def page_is_as_asked(size: int | None, asked: int | None, host: Json) -> None:
    sizes = sorted(page["size_kb"] for page in host["mempages"])
    allowed = {None: [None], SMALL: sizes[:1], LARGE: sizes[1:], ANY: sizes}.get(asked, [asked])
    assert size in allowed


def cpus_are_as_asked(cell: Json, emulator: int, host: Json) -> None:
    pins, reserved = cell.get("cpu_pinning", {}), cell.get("cpuset_reserved", [])
    assert len(cell["cpuset"]) <= len(host["cpuset"])
    if cell.get("cpu_policy") not in PINNED:
        assert not pins and not reserved
        return
    assert sorted(map(int, pins)) == cell["pcpuset"]
    assert len(reserved) == emulator
    own = own_cpus(cell)
    assert len(own) == len(set(own))
    cores = [len(set(own) & set(core)) for core in host["siblings"]]
    if cell.get("cpu_thread_policy") == "isolate":
        assert max(cores, default=1) <= 1
    if cell.get("cpu_thread_policy") == "require":
        pinned = [len(set(pins.values()) & set(core)) for core in host["siblings"]]
        assert sum(pinned) == len(pins) and pinned.count(1) <= 1


def limits_hold(claim: Json, limits: Json | None, view: Json, report: Json) -> None:
    """The over-commit ratios of the host cells that a floating guest is on, and its networks."""
    if not limits:
        return
    networks_are_near(claim, limits, report)
    if "numa_topology" not in limits:
        return
    ratios = limits["numa_topology"]
    shown = {cell["id"]: cell for cell in (view["numa_topology"] or {"cells": []})["cells"]}
    for cell in cells_of(claim):
        if cell.get("cpu_policy") != "dedicated":
            host = shown[cell["id"]]
            assert host["cpu_usage"] <= len(host["cpuset"]) * ratios["cpu_allocation_ratio"]
            assert host["memory_usage"] <= host["memory"] * ratios["ram_allocation_ratio"]


def networks_are_near(claim: Json, limits: Json, report: Json) -> None:
    """Each network that a host cell is near to is near to one of the guest's."""
    wanted = limits.get("numa_topology", {}).get("network_metadata") or limits.get("network_metadata") or {}
    names = [*wanted.get("physnets", ()), *(["tunnels"] if wanted.get("tunneled") else [])]
    chosen = {cell["id"] for cell in cells_of(claim)}
    for name in names if chosen else ():
        near = set()
        for cell in report["numa_topology"]["cells"]:
            networks = cell.get("network_metadata", {})
            if name in networks.get("physnets", ()) or (name == "tunnels" and networks.get("tunneled")):
                near.add(cell["id"])
        assert not near or near & chosen, name


def devices_are_as_asked(
    got: list[Json],
    requests: list[Json],
    cells: set[int],
    devices: Mapping[str, Json | None],
    report: Json,
    status: str,
) -> None:
    """As many devices for each request as it counts, one after the other, all near enough to the guest."""
    each = [request for request in requests for _ in range(request["count"])]
    assert len(got) == len(each)
    for held, request in zip(got, each, strict=True):
        device = devices[held["address"]]
        assert device is not None
        assert held == shown_device(device, status, request.get("request_id"))
        assert any(all(has(device, key, wanted) for key, wanted in s.items()) for s in request["spec"])
        assert named(device, request["spec"])
        assert not cells or near_enough(device["numa_node"], request, cells, report)


def shown_device(device: Json, status: str, request_id: str | None) -> Json:
    view = {"address": device["address"], "status": status, **{key: device[key] for key in SHOWN}}
    return view if request_id is None else {**view, "request_id": request_id}


def has(device: Json, key: str, wanted: Any) -> bool:
    if key == "resource_class":
        return True
    found = {**{field: device[field] for field in FIELDS}, **tags_of(device)}.get(key)
    return str(found).lower() == str(wanted).lower()


def named(device: Json, specs: list[Json]) -> bool:
    """Whether a request names the device's kind, where that is required: PF, vdpa, remote managed."""
    types = [spec.get("dev_type") for spec in specs]
    if device["dev_type"] in ("type-PF", "vdpa") and device["dev_type"] not in types:
        return False
    remote = tags_of(device).get("remote_managed") == "true"
    return not remote or any(spec.get("remote_managed") == "true" for spec in specs)


def near_enough(numa_node: int | None, request: Json, cells: set[int], report: Json) -> bool:
    sockets = {id: cell["socket"] for id, cell in host_cells(report).items()}
    match request.get("numa_policy", "legacy"):
        case "required":
            return numa_node in cells
        case "legacy":
            return numa_node in cells or numa_node is None
        case "socket":
            told = None not in sockets.values()
            same = {id for id, socket in sockets.items() if socket in {sockets.get(c) for c in cells}}
            return numa_node in cells or (told and numa_node in same)
        case _:
            return True


def guessed(held: list[Json], requests: list[Json]) -> frozenset[str]:
    """The addresses of taken devices where Placement may have chosen others."""
    each = [request for request in requests for _ in range(request["count"])]
    unsure = [any("resource_class" in spec for spec in request["spec"]) for request in each]
    return frozenset(device["address"] for device, guess in zip(held, unsure, strict=True) if guess)
