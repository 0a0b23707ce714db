# SPDX-License-Identifier: Apache-2.0
"""Random hosts as a hypervisor reports them, and requests of random guests; both as plain JSON."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests import samples
from tracker_worker.domain.fields import PciNumaPolicy
from tracker_worker.domain.pci.specs import Alias
from tracker_worker.domain.settings import TrackerSettings

Json = dict[str, Any]

SMALL, LARGE, ANY = -1, -2, -3
PINNED = ("dedicated", "mixed")
MOST_DEVICES = 12

# Hosts: cells.

ORDINARY, HUGE, GIANT = 4, 2048, 1_048_576
PAGES_OF_A_CELL = ((), (ORDINARY,), (ORDINARY, HUGE), (ORDINARY, HUGE, GIANT), (HUGE,))


@dataclass(frozen=True)
class Shape:
    """How a host cell is made; `kept` are the reserved pages of each size, None where it does not say."""

    cpus: int
    shared: int
    legacy: bool
    threads: int
    apart: bool
    memory_mb: int
    pages: tuple[int, ...]
    totals: tuple[int, int]
    kept: tuple[int | None, int | None, int | None]
    socket: int | None
    networks: Json | None

    def json(self, id: int, first_cpu: int) -> Json:
        cpus = list(range(first_cpu, first_cpu + self.cpus))
        return {
            "id": id,
            "cpuset": cpus if self.legacy else cpus[: self.shared],
            "pcpuset": cpus if self.legacy else cpus[self.shared :],
            "memory": self.memory_mb,
            "siblings": list(self._cores(cpus)),
            "socket": self.socket,
            **({} if self.networks is None else {"network_metadata": self.networks}),
            "mempages": [self._pages(size, kept) for size, kept in zip(self.pages, self.kept, strict=False)],
        }

    def _cores(self, cpus: list[int]) -> Iterator[list[int]]:
        """The siblings of each core; a host without threads may report none. The last core may be smaller."""
        if self.threads == 1 and self.apart:
            return
        count = -(-len(cpus) // self.threads)
        for core in range(count):
            yield cpus[core::count] if self.apart else cpus[core * self.threads : (core + 1) * self.threads]

    def _pages(self, size: int, kept: int | None) -> Json:
        totals = {HUGE: self.totals[0], GIANT: self.totals[1]}
        total = totals.get(size, self.memory_mb * 256)
        return {"size_kb": size, "total": total, **({} if kept is None else {"reserved": kept})}


reserves = st.sampled_from([None, None, None, 0, 1, 100, 100, 300_000])
shapes = st.builds(
    Shape,
    cpus=st.sampled_from([0, 1, 3, 4, 6, 8, 8, 12, 16]),
    shared=st.sampled_from([0, 1, 2, 2, 4, 16]),
    legacy=st.booleans(),
    threads=st.sampled_from([1, 2, 2, 4]),
    apart=st.booleans(),
    memory_mb=st.sampled_from([1024, 4096, 6144]),
    pages=st.sampled_from(PAGES_OF_A_CELL),
    totals=st.tuples(st.sampled_from([0, 256, 1024, 1024]), st.integers(0, 4)),
    kept=st.tuples(reserves, reserves, reserves),
    socket=st.sampled_from([None, 0, 0, 1]),
    networks=st.sampled_from([None, {"physnets": ["net1"]}, {"physnets": [], "tunneled": True}]),
)

# Hosts: devices.

TAGS: tuple[Json | None, ...] = (
    None,
    {"physical_network": "net1"},
    {"physical_network": None},
    {"physical_network": "net1", "trusted": "true"},
    {"remote_managed": "true"},
)
IDS = {
    "type-PCI": ("10de", "1db4"),
    "type-PF": ("8086", "1563"),
    "type-VF": ("8086", "1565"),
    "vdpa": ("15b3", "101e"),
}


@dataclass(frozen=True)
class Card:
    """A device alone, or a physical function with its children."""

    dev_type: str
    children: tuple[str, ...]
    numa_node: int | None
    tags: Json | None
    children_tags: Json | None

    def json(self, number: int) -> list[Json]:
        parent = f"0000:{number:02x}:00.0"
        devices = [self._device(parent, self.dev_type, self.tags)]
        children = self.children if self.dev_type == "type-PF" else ()
        for function, dev_type in enumerate(children, 1):
            child = self._device(f"0000:{number:02x}:00.{function}", dev_type, self.children_tags)
            devices.append({**child, "parent_addr": parent})
        return devices

    def _device(self, address: str, dev_type: str, tags: Json | None) -> Json:
        vendor_id, product_id = IDS[dev_type]
        device: Json = {"address": address, "vendor_id": vendor_id, "product_id": product_id}
        return device | {"dev_type": dev_type, "numa_node": self.numa_node, "tags": tags}


numa_nodes = st.sampled_from([None, -1, 0, 0, 0, 1, 2, 3])
cards = st.builds(
    Card,
    dev_type=st.sampled_from(["type-PCI", "type-PF", "type-PF"]),
    children=st.lists(st.sampled_from(["type-VF", "type-VF", "vdpa"]), min_size=1, max_size=4).map(tuple),
    numa_node=numa_nodes,
    tags=st.sampled_from(TAGS[:4]),
    children_tags=st.sampled_from([None, *TAGS]),
)


def host(shapes: list[Shape], cards: list[Card], kept_by_node: bool, bare: bool) -> Json:
    """The report of a host; a bare one reports no cells."""
    numbers = itertools.accumulate((shape.cpus for shape in shapes), initial=0)
    cells = [shape.json(id, first) for id, (shape, first) in enumerate(zip(shapes, numbers, strict=False))]
    devices = [device for number, card in enumerate(cards) for device in card.json(number)]
    report: Json = samples.a_report(
        vcpus=16,
        memory_mb=32768,
        local_gb=200,
        reserved_host_memory_mb=512,
        reserved_host_cpus=1,
        pci_devices=devices[:MOST_DEVICES],
    )
    if not bare:
        report["numa_topology"] = {"cells": cells}
    if kept_by_node:
        report["reserved_huge_pages"] = [{"node": 0, "size_kb": HUGE, "count": 200}]
    return report


hosts = st.builds(
    host,
    shapes=st.lists(shapes, min_size=1, max_size=4),
    cards=st.lists(cards, min_size=3, max_size=6),
    kept_by_node=st.booleans(),
    bare=st.sampled_from([False] * 7 + [True]),
)


def changed(devices: list[Json], original: list[Json], used: list[str], choice: int) -> list[Json]:
    """The devices of a host after one of them, preferably a `used` one, was added, removed or changed.

    `original` are all devices that the host has ever had.
    """
    missing = [each for each in original if each["address"] not in {d["address"] for d in devices}]
    if missing and choice % 3 == 0:
        return [*devices, missing[choice % len(missing)]]
    in_use = [device for device in devices if device["address"] in used]
    some = in_use if in_use and choice % 2 else devices
    if not some:
        return devices
    device = some[choice // 7 % len(some)]
    others = [each for each in devices if each is not device]
    match choice // 11 % 5:
        case 0 | 1:
            return others
        case 2:
            return [*others, {**device, "numa_node": choice % 4}]
        case 3:
            return [{**device, "tags": TAGS[choice % len(TAGS)]}, *others]
        case _:
            return [*others, {**device, "dev_type": "type-PCI", "parent_addr": None}]


# What a guest asks for.

MASKED = 1
"""How many of a mixed guest's vcpus are dedicated: its first ones."""


@dataclass(frozen=True)
class Wish:
    """What the flavor of a guest says; cpus and memory are those of one cell."""

    cells: int
    cpus: int
    memory_mb: int
    policy: str | None
    threads: str | None
    emulator: str | None
    pages: str | None
    alias: str | None
    disk_gb: int

    @property
    def vcpus(self) -> int:
        return self.cpus * max(self.cells, 1)

    def sensible(self) -> "Wish":
        """The same without combinations that no flavor may have."""
        wish = self
        if wish.policy == "mixed" and wish.vcpus <= MASKED:
            wish = replace(wish, policy="dedicated")
        if wish.policy not in PINNED:
            wish = replace(wish, threads=None, emulator=None)
        if wish.pages in ("2MB", "1GB"):
            wish = replace(wish, memory_mb={"2MB": 64, "1GB": 1024}[wish.pages])
        return wish

    def flavor(self) -> Json:
        specs = {
            "hw:numa_nodes": str(self.cells) if self.cells else None,
            "hw:cpu_policy": self.policy,
            "hw:cpu_thread_policy": self.threads,
            "hw:emulator_threads_policy": self.emulator,
            "hw:mem_page_size": self.pages,
            "hw:cpu_dedicated_mask": f"0-{MASKED - 1}" if self.policy == "mixed" else None,
            "pci_passthrough:alias": self.alias,
        }
        return samples.a_flavor(
            self.vcpus,
            self.memory_mb * max(self.cells, 1),
            self.disk_gb,
            swap_mb=100,
            extra_specs={key: value for key, value in specs.items() if value is not None},
        )

    def topology(self) -> Json | None:
        """The topology that must be fitted, computed independently; None for a guest without one."""
        if not (self.cells or self.pages or self.policy in PINNED):
            return None
        dedicated = {"dedicated": self.vcpus, "mixed": MASKED}.get(self.policy or "", 0)
        cells = []
        for id in range(max(self.cells, 1)):
            cpus = range(id * self.cpus, (id + 1) * self.cpus)
            cell: Json = {
                "id": id,
                "cpuset": [cpu for cpu in cpus if cpu >= dedicated],
                "pcpuset": [cpu for cpu in cpus if cpu < dedicated],
                "memory": self.memory_mb,
                "pagesize": PAGE_SIZES[self.pages],
                "cpu_policy": self.policy,
                "cpu_thread_policy": self.threads,
            }
            cells.append({key: value for key, value in cell.items() if value is not None})
        policy = {} if self.emulator is None else {"emulator_threads_policy": self.emulator}
        return {"cells": cells, **policy}


PAGE_SIZES = {
    None: None,
    "small": SMALL,
    "large": LARGE,
    "any": ANY,
    "4": ORDINARY,
    "2MB": HUGE,
    "1GB": GIANT,
}
FLOATING = Wish(0, 1, 512, None, None, None, None, None, 1)

wishes = st.builds(
    Wish,
    cells=st.sampled_from([0, 1, 1, 1, 2, 2, 3]),
    cpus=st.sampled_from([1, 1, 2, 2, 2, 3, 4]),
    memory_mb=st.sampled_from([64, 64, 333, 512, 1024]),
    policy=st.sampled_from([None, "shared", "dedicated", "dedicated", "mixed"]),
    threads=st.sampled_from([None, None, "prefer", "isolate", "isolate", "require"]),
    emulator=st.sampled_from([None, "share", "isolate", "isolate"]),
    pages=st.sampled_from([None, None, None, *PAGE_SIZES]),
    alias=st.sampled_from([None] * 8 + ["gpu:1", "nic:1", "nic:2", "card:1", "gpu:1,nic:1"]),
    disk_gb=st.sampled_from([0, 1, 20]),
).map(Wish.sensible)

# What a guest asks for: devices.

SPECS: tuple[list[Json], ...] = (
    [{"vendor_id": "10DE", "product_id": "1db4"}],
    [{"dev_type": "type-VF"}],
    [{"dev_type": "type-VF"}],
    [{"dev_type": "type-PF"}],
    [{"dev_type": "type-VF", "physical_network": "net1"}],
    [{"dev_type": "type-PF"}],
    [{"dev_type": "type-VF"}, {"dev_type": "type-PF"}],
    [{"dev_type": "vdpa"}, {"vendor_id": "10de"}],
    [{"vendor_id": "8086"}],
    [{"dev_type": "type-VF", "remote_managed": "true"}],
    [{"resource_class": "CUSTOM_NIC", "dev_type": "type-VF"}],
    [{"resource_class": "CUSTOM_GPU"}],
    [{}],
)
POLICIES = (None, None, "legacy", "preferred", "preferred", "required", "socket")
ALIASES: dict[str, tuple[list[Json], str]] = {
    "gpu": ([{"vendor_id": "10de", "product_id": "1db4"}], "legacy"),
    "nic": ([{"vendor_id": "8086", "product_id": "1565", "dev_type": "type-VF"}], "preferred"),
    "card": ([{"resource_class": "CUSTOM_CARD", "dev_type": "type-PF"}, {"dev_type": "vdpa"}], "required"),
}

port = st.tuples(st.sampled_from([1, 1, 2]), st.sampled_from(SPECS), st.sampled_from(POLICIES))


def requests(chosen: list[tuple[int, list[Json], str | None]], ids: Iterator[int]) -> list[Json]:
    """The requests of ports, each with an id of its own."""
    return [
        {
            "count": count,
            "spec": spec,
            "request_id": f"port-{next(ids)}",
            "source": "neutron_port",
            **({} if policy is None else {"numa_policy": policy}),
        }
        for count, spec, policy in chosen
    ]


def aliased(wish: Wish) -> list[Json]:
    """The requests that a flavor's aliases stand for."""
    asked = [each.split(":") for each in wish.alias.split(",")] if wish.alias else []
    return [
        {"count": int(count), "spec": ALIASES[name][0], "numa_policy": ALIASES[name][1]}
        for name, count in asked
    ]


def tracker_settings(pack: bool) -> TrackerSettings:
    """The settings that the rules decide by."""
    aliases = {
        name: Alias(name, tuple(specs), PciNumaPolicy(policy)) for name, (specs, policy) in ALIASES.items()
    }
    return TrackerSettings(aliases=aliases, packing_host_numa_cells_allocation_strategy=pack)


limits = st.sampled_from(
    [
        None,
        None,
        None,
        {"numa_topology": {"cpu_allocation_ratio": 1.0, "ram_allocation_ratio": 1.0}},
        {"numa_topology": {"cpu_allocation_ratio": 16.0, "ram_allocation_ratio": 0.5}},
        {"vcpu": 8, "memory_mb": 4096},
        {"network_metadata": {"physnets": ["net1", "nowhere"]}},
        {
            "numa_topology": {
                "cpu_allocation_ratio": 16.0,
                "ram_allocation_ratio": 1.5,
                "network_metadata": {"physnets": ["net1"], "tunneled": True},
            }
        },
    ]
)
