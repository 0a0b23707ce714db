# SPDX-License-Identifier: Apache-2.0
"""Reports as Nova's drivers make them, odd hosts and all: libvirt, Ironic, VMware. Plain JSON.

Source: get_available_resource of nova.virt.libvirt.driver, nova.virt.ironic.driver and
nova.virt.vmwareapi.driver, which the tracker passes on with what the host's options add.
"""

from typing import Any

from hypothesis import strategies as st

from tests.builders import HOST, NODE_UUID

Json = dict[str, Any]

KIB_PER_MIB = 1024
ORDINARY, HUGE, GIANT = 4, 2048, 1_048_576
EMPTY_OR = st.sampled_from(["", "x"])

# libvirt


@st.composite
def cells(draw: st.DrawFn) -> list[Json]:
    """Cells as libvirt tells them: memory in KiB, divided; cells without memory or cpus; offline cpus."""
    threads = draw(st.sampled_from([1, 1, 2, 4, 8]))
    numbered: list[list[int | None]] = [[0, 1, 2, 3], [0, 0, 1, 1], [-1] * 4, [None] * 4]
    sockets = draw(st.sampled_from(numbered))
    giants = draw(st.integers(0, 3))
    found: list[Json] = []
    first = 0
    for id in draw(st.sampled_from([[0], [0, 1], [0, 2], [0, 1, 2, 8]])):
        count = threads * draw(st.sampled_from([0, 1, 2, 4]))
        online = [cpu for cpu in range(first, first + count) if draw(st.sampled_from([True] * 9 + [False]))]
        first += count
        number = len(found)
        found.append(
            {
                "id": id,
                **draw(cpus(online, threads)),
                "socket": sockets[number] if online else None,
                **draw(memory(giant=number == giants)),
                **draw(st.sampled_from(NETWORKS)),
            }
        )
    return found


@st.composite
def cpus(draw: st.DrawFn, online: list[int], threads: int) -> Json:
    """[compute] cpu_shared_set and cpu_dedicated_set, or neither: then all cpus are both (vcpu_pin_set)."""
    cores = [[cpu for cpu in online if cpu // threads == core] for core in {cpu // threads for cpu in online}]
    siblings = sorted(core for core in cores if core)
    split = draw(st.none() | st.integers(0, len(online)))
    shared, dedicated = (online, online) if split is None else (online[:split], online[split:])
    return {"cpuset": shared, "pcpuset": dedicated, "siblings": siblings}


@st.composite
def memory(draw: st.DrawFn, giant: bool) -> Json:
    """Memory that is no whole number of MB; 1 GiB pages on one cell; no pages where a host reports none."""
    kib = draw(st.sampled_from([0, 1, 1023, 82_336_776, 16 * GIANT + 4, 24 * 1024 * GIANT]))
    huge, giants = draw(st.sampled_from([0, 0, 1, 512])), draw(st.sampled_from([1, 4]))
    sizes = {
        ORDINARY: max(kib - huge * HUGE, 0) // ORDINARY,
        HUGE: huge,
        **({GIANT: giants} if giant else {}),
    }
    reserved = draw(st.sampled_from([None, 0, 64, 10**6]))
    pages = [
        {"size_kb": size, "total": total, **({} if reserved is None else {"reserved": reserved})}
        for size, total in sizes.items()
    ]
    return {"memory": kib / KIB_PER_MIB, "mempages": draw(st.sampled_from([pages, pages, []]))}


NETWORKS: tuple[Json, ...] = (
    {},
    {"network_metadata": {"physnets": [], "tunneled": False}},
    {"network_metadata": {"physnets": ["foo", "bar"], "tunneled": True}},
)


@st.composite
def devices(draw: st.DrawFn) -> list[Json]:
    """A card with its functions, and what sysfs has on it; not every host reports the cell."""
    node = draw(st.sampled_from([None, -1, 0, 1, 8]))
    domain = draw(st.sampled_from(["0000", "10000"]))
    tags = draw(st.sampled_from([None, {"physical_network": None}, {"physical_network": ""}, {"": "x"}]))
    card = {
        "address": f"{domain}:81:00.0",
        "vendor_id": "15b3",
        "product_id": "101d",
        "dev_type": "type-PF",
        "numa_node": node,
        "label": draw(EMPTY_OR),
        "tags": {"physical_network": "foo"},
        "capabilities": {"network": ["rx", "tx"], "vpd": {"card_serial_number": draw(EMPTY_OR)}},
    }
    children = [
        {
            **card,
            "address": f"{domain}:81:00.{function}",
            "product_id": "101e",
            "dev_type": draw(st.sampled_from(["type-VF", "vdpa"])),
            "parent_addr": card["address"],
            "tags": None if tags == {"": "x"} else tags,
            "capabilities": {"sriov": {"pf_mac_address": "52:54:00:00:00:01", "vf_num": function}},
        }
        for function in range(1, draw(st.integers(1, 4)))
    ]
    return draw(st.sampled_from([[], [card], [card, *children], children]))


def pgpu(name: str) -> Json:
    """A physical GPU, as libvirt's update_provider_tree leaves it; the second has no free type of vGPU."""
    total = 0 if name.endswith("_1") else 16
    sizes = {
        "total": total,
        "min_unit": 1,
        "max_unit": 1,
        "step_size": 1,
        "reserved": 0,
        "allocation_ratio": 1.0,
    }
    return {"name": name, "inventories": {"VGPU": sizes}, "traits": ["OWNER_NOVA"]}


@st.composite
def libvirt(draw: st.DrawFn) -> Json:
    """A host of virtual machines; disk_available_least has a fraction, and may be below zero."""
    host = draw(cells())
    report: Json = {
        "vcpus": len({cpu for cell in host for cpu in (*cell["cpuset"], *cell["pcpuset"])}),
        "memory_mb": int(sum(cell["memory"] for cell in host)),
        "local_gb": draw(st.sampled_from([0, 100, 99.9])),
        "vcpus_used": draw(st.sampled_from([0, 300])),
        "memory_mb_used": draw(st.sampled_from([-1, 0, 80407.0078125])),
        "local_gb_used": draw(st.sampled_from([0, 12.5])),
        "disk_available_least": draw(st.sampled_from([-0.5, -1e5, 0, 12.998046875])),
        "hypervisor_type": draw(st.sampled_from(["QEMU", "KVM", ""])),
        "hypervisor_version": 8_002_000,
        "cpu_info": draw(st.sampled_from(["", "{}", '{"arch": "x86_64", "features": ["vmx"]}', {}])),
        "numa_topology": draw(st.sampled_from([{"cells": host}, {"cells": host}, {"cells": []}, None])),
        "pci_devices": draw(devices()),
        "stats": {"uptime": draw(st.none() | st.just(" 10:01:16 up 1:00,  0 users"))},
        "providers": draw(st.sampled_from([None, [], [pgpu(f"host_pci_0000_84_00_{n}") for n in (0, 1)]])),
    }
    huge = draw(st.none() | st.just([{"node": 7, "size_kb": HUGE, "count": 64}]))
    return report if huge is None else {**report, "reserved_huge_pages": huge}


# Ironic and VMware

ironic = st.fixed_dictionaries(
    {
        "vcpus": st.just(0),
        "memory_mb": st.just(0),
        "local_gb": st.just(0),
        "vcpus_used": st.just(0),
        "memory_mb_used": st.just(0),
        "local_gb_used": st.just(0),
        "disk_available_least": st.just(0),
        "available": st.booleans(),
        "hypervisor_type": st.just("ironic"),
        "hypervisor_version": st.just(1),
        "cpu_info": st.sampled_from([None, ""]),
        "numa_topology": st.none(),
        "stats": st.sampled_from([{"cpu_arch": None}, {"cpu_arch": "x86_64", "": "x", "boot_mode": ""}]),
        "inventories": st.just({"CUSTOM_GOLD": {"total": 1, "reserved": 0, "allocation_ratio": 1.0}}),
    }
)
"""A bare metal node: zeros; its capabilities are the stats, and may be named by nothing."""

vmware = st.fixed_dictionaries(
    {
        "vcpus": st.sampled_from([0, 512]),
        "memory_mb": st.sampled_from([0, 8_388_608, 1023.5]),
        "local_gb": st.sampled_from([0, 2_000_000]),
        "vcpus_used": st.just(0),
        "memory_mb_used": st.sampled_from([-5, 0, 1023.5]),
        "local_gb_used": st.sampled_from([-5, 0]),
        "hypervisor_type": st.just("VMware vCenter Server"),
        "hypervisor_version": st.just(8_000_003),
        "cpu_info": st.none(),
        "numa_topology": st.none(),
    }
)
"""A cluster; its datastore and its memory are 0 while the cluster has no host."""


def _completed(report: Json, host_ip: str) -> Json:
    return {"uuid": NODE_UUID, "host": HOST, "host_ip": host_ip, **report}


reports = st.builds(
    _completed, st.one_of(libvirt(), libvirt(), ironic, vmware), st.sampled_from(["", "192.0.2.1", "::1"])
)
"""What a compute manager sends as `resources`."""
