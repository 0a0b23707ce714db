# SPDX-License-Identifier: Apache-2.0
"""Tables of a node's NUMA cells and PCI devices: their usage, and their assignment to instances."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from tracker_worker.cmd.manage.formatting import print_rows

Json = dict[str, Any]

_POOL = ("vendor_id", "product_id", "dev_type", "numa_node", "parent_addr", "tags", "count")


def print_topology(view: Json) -> None:
    """Print the NUMA cells of a node view and the instances on them; nothing without a NUMA topology."""
    cells = (view["numa_topology"] or {}).get("cells")
    if not cells:
        return
    rows = (
        [
            cell["id"],
            f"{cell['cpu_usage']}/{len(cell['cpuset'])}",
            f"{len(cell['pinned_cpus'])}/{len(cell['pcpuset'])}",
            ranges(set(cell["pcpuset"]) - set(cell["pinned_cpus"])),
            f"{cell['memory_usage']}/{cell['memory']}",
            ", ".join(map(_pages, cell["mempages"])),
        ]
        for cell in cells
    )
    columns = ("cell", "shared cpus", "pinned cpus", "free to pin", "memory_mb", "pages used (+ reserved)")
    print_rows(columns, rows, "NUMA cells")
    claimed = sorted(_claimed_cells(view["claims"]))
    if claimed:
        columns = ("cell", "instance_uuid", "role", "pinned cpus", "emulator", "memory_mb")
        print_rows(columns, claimed, "Instances on NUMA cells", keep=("instance_uuid",))


def print_devices(view: Json) -> None:
    """Print the PCI pools and devices of a node view with their instances; nothing without devices."""
    pools = view["pci_device_pools"]
    if pools:
        print_rows(_POOL, ([_cell_text(pool.get(key)) for key in _POOL] for pool in pools), "PCI pools")
    devices = view["pci_devices"]
    if devices:
        keys = ("address", "status", "instance_uuid")
        print_rows(keys, ([device.get(key) for key in keys] for device in devices), "PCI devices")


def ranges(cpus: Iterable[int]) -> str:
    """Return CPUs in the format of Nova's options, such as 0-3,8."""
    parts = []
    for _, run in groupby(enumerate(sorted(cpus)), key=lambda each: each[1] - each[0]):
        numbers = [number for _, number in run]
        parts.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ",".join(parts)


def _claimed_cells(claims: Iterable[Json]) -> Iterator[list[Any]]:
    for claim in claims:
        for cell in (claim["numa_topology"] or {}).get("cells", ()):
            yield [
                cell["id"],
                claim["instance_uuid"],
                claim["role"],
                ranges(cell.get("cpu_pinning", {}).values()),
                ranges(cell.get("cpuset_reserved") or ()),
                cell["memory"],
            ]


def _pages(page: Json) -> str:
    reserved = f"+{page['reserved']}" if page["reserved"] else ""
    return f"{page_size_text(page['size_kb'])}: {page['used']}{reserved}/{page['total']}"


def page_size_text(size_kb: int) -> str:
    """Return the size of a page for people, such as 2M."""
    for unit, factor in (("G", 1024 * 1024), ("M", 1024)):
        if size_kb % factor == 0:
            return f"{size_kb // factor}{unit}"
    return f"{size_kb}K"


def _cell_text(value: Any) -> Any:
    """Return a value as it is printed: the tags of a pool as name=value."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in sorted(value.items()))
    return value
