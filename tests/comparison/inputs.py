# SPDX-License-Identifier: Apache-2.0
"""Random inputs of the rules that Nova has too, as plain JSON: about half are valid, others nearly."""

from collections.abc import Callable, Mapping, Sequence
from json import dumps
from random import Random
from typing import Any

Json = dict[str, Any]

CPU_SETS = (
    "0",
    "0-1",
    "1-3",
    "^0",
    "^0-1",
    "0-7,^2",
    "2",
    "0,1,2,3",
    "9",
    "3-1",
    "x",
    "",
    " 0-1 ",
    "0-",
    ",1,",
)
BOOLEANS = ("true", "yes", "1", "false", "no", "x", "")
EXTRA_SPECS: dict[str, Sequence[str]] = {
    "hw:numa_nodes": ("1", "1", "2", "2", "4", "0", "-1", "01", " 1", "x", ""),
    "hw:numa_cpus.0": ("0", "0-1", "0-2", "^1", "x"),
    "hw:numa_cpus.1": ("1", "2-3", "3", "1-3"),
    "hw:numa_mem.0": ("1024", "2048", "3072", "4096", "x", " 2048 "),
    "hw:numa_mem.1": ("1024", "2048", "-1", ""),
    "hw:mem_page_size": (
        "small", "large", "any", "4", "2048", "2MB", "1GB", "2048KB", "0", "2M", "1G", "2048 ", "1.5KB",
        "4KiB", "32Mbit", "8b", "100B", "-2048", "x", "",
    ),
    "hw:cpu_policy": ("dedicated", "dedicated", "shared", "mixed", "mixed", "x", ""),
    "hw:cpu_thread_policy": ("prefer", "isolate", "require", "x", ""),
    "hw:emulator_threads_policy": ("share", "isolate", "x", ""),
    "hw:cpu_dedicated_mask": CPU_SETS,
    "hw:cpu_realtime": BOOLEANS,
    "hw:cpu_realtime_mask": CPU_SETS,
    "hw:pmem": ("6GB", "6GB,8GB", " , ", ""),
    "hw:locked_memory": BOOLEANS,
    "hw:mem_encryption": BOOLEANS,
    "hw:mem_encryption_model": ("amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx", ""),
    "hw:pci_numa_affinity_policy": ("required", "preferred", "legacy", "socket", "x", ""),
    "resources:VCPU": ("4", "4", "0", "2", "-1", "x"),
    "resources:PCPU": ("4", "4", "5", "0", "2", "x"),
    "resources1:PCPU": ("4", "2", "0"),
    "trait:HW_CPU_HYPERTHREADING": ("required", "forbidden", "x"),
    "trait2:HW_CPU_HYPERTHREADING": ("required", "forbidden"),
}  # fmt: skip
IMAGE_PROPERTIES: dict[str, Sequence[str]] = {
    "hw_numa_nodes": ("1", "2", "0", "01"),
    "hw_numa_cpus.0": ("0", "0-1", "0-2"),
    "hw_numa_cpus.1": ("1", "2-3", "3"),
    "hw_numa_mem.0": ("1024", "2048", "4096"),
    "hw_numa_mem.1": ("1024", "2048"),
    "hw_mem_page_size": EXTRA_SPECS["hw:mem_page_size"],
    "hw_cpu_policy": ("dedicated", "shared", "mixed"),
    "hw_cpu_thread_policy": ("prefer", "isolate", "require"),
    "hw_emulator_threads_policy": ("share", "isolate", "x"),
    "hw_cpu_realtime_mask": CPU_SETS,
    "hw_locked_memory": BOOLEANS,
    "hw_mem_encryption": BOOLEANS,
    "hw_mem_encryption_model": EXTRA_SPECS["hw:mem_encryption_model"][:-1],
    "hw_firmware_type": ("uefi", "bios"),
    "hw_machine_type": ("q35", "pc-q35-2.11", "pc"),
    "hw_firmware_stateless": ("true", "false"),
    "hw_pci_numa_affinity_policy": ("required", "legacy", "socket"),
    "trait:HW_CPU_HYPERTHREADING": ("required", "forbidden"),
}


USUAL = 0.75
"""How often a value is one of the first two of its table, which are valid."""


def _one(random: Random, values: Sequence[Any]) -> Any:
    return random.choice(values[:2] if random.random() < USUAL else values)


def _some(random: Random, table: Mapping[str, Sequence[Any]], most: int) -> Json:
    keys = random.sample(list(table), random.randint(0, most))
    return {key: _one(random, table[key]) for key in keys}


def constraints(random: Random) -> Json:
    """A flavor and an image; most flavors ask for a topology that can be had, to begin with."""
    start = random.choice(
        (
            {},
            {"hw:cpu_policy": "dedicated"},
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-1"},
            {"hw:mem_page_size": "large"},
            {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-2", "hw:numa_cpus.1": "3"}
            | {"hw:numa_mem.0": "3072", "hw:numa_mem.1": "1024"},
        )
    )
    return {
        "vcpus": _one(random, (4, 4, 1, 2, 8)),
        "memory_mb": _one(random, (4096, 4096, 1024, 1023)),
        "extra_specs": start | _some(random, EXTRA_SPECS, 3),
        "image_properties": _some(random, IMAGE_PROPERTIES, 2),
    }


RESOURCE_GROUPS = ("", "", "1", "_a-B", "0", ".")
RESOURCE_CLASSES = ("VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "CUSTOM_GOLD", "VGPU", "X")


def resources(random: Random) -> Json:
    """A flavor whose extra specs say what Placement is asked for."""
    keys = [
        f"resources{random.choice(RESOURCE_GROUPS)}:{random.choice(RESOURCE_CLASSES)}"
        for _ in range(random.randint(0, 4))
    ]
    return {
        "vcpus": random.randint(1, 8),
        "memory_mb": random.choice((512, 4096)),
        "root_gb": random.choice((0, 20)),
        "ephemeral_gb": random.choice((0, 1)),
        "volume_backed": random.choice((True, False)),
        "extra_specs": {key: random.choice(("0", "1", "7", " 7 ", "-1", "x", "")) for key in keys},
    }


NETWORKS = ("foo", "bar", "baz")


def networks(random: Random) -> Json:
    """Host cells near to networks, those of them that were chosen, and the networks of a guest."""

    def some() -> Json:
        physnets = random.sample(NETWORKS, random.randint(0, 2))
        return {"physnets": physnets, "tunneled": random.choice((True, False))}

    cells = [random.choice((None, some(), some())) for _ in range(random.randint(1, 4))]
    chosen = random.sample(range(len(cells)), random.randint(1, len(cells)))
    return {"cells": cells, "chosen": chosen, "networks": random.choice((None, some(), some(), some()))}


VENDORS = ("8086", "15b3", "*", "0x8086", "80", " 8086", "fffff", "x", "")
PRODUCTS = ("1565", "101e", "1563", "*", "x")
ADDRESSES = (
    "*:0a:00.*", "0000:0a:00.0", "0000:0a:00.1", "*:*:*.*", ":00.", "0a:00.0", "0a:00", "0000:0a:00", "0b:.",
    "0000:0a:00.8", "0000:1ff:00.0", "10000:0a:00.0", "1:2:3:4.5", "x", "", " 0000 : 0a : 00 . 1 ",
)  # fmt: skip
EXPRESSIONS = {
    "domain": (".*", "0000", "0"),
    "bus": ("0[ab]", "0a", ".", "[", ""),
    "slot": ("00", "0"),
    "function": ("[0-3]", "0", "1", "[4-7]"),
    "func": ("0",),
}
TAGS: dict[str, Sequence[Any]] = {
    "physical_network": ("foo", "", None, "bar"),
    "trusted": ("true", "x", True),
    "remote_managed": ("true", "false", "True", "x", None),
    "live_migratable": ("yes", "no", "x"),
    "managed": ("true", "0", "x"),
    "resource_class": ("CUSTOM_NIC",),
    "traits": ("CUSTOM_A,CUSTOM_B",),
    "own": ("1", "a b"),
}


def device_specs(random: Random) -> Json:
    """The values of [pci] device_spec, and the devices of a host."""
    texts = [dumps(_device_spec(random)) for _ in range(random.randint(1, 3))]
    if random.random() < 0.05:
        texts.append(random.choice(("", "[]", "null", "[1]", "{", '"x"')))
    return {"device_specs": texts, "devices": _devices(random)}


def _device_spec(random: Random) -> Json:
    spec: Json = _some(random, {"vendor_id": VENDORS, "product_id": PRODUCTS}, 2)
    if random.random() < 0.7:
        by_text = random.random() < 0.6
        spec["address"] = _one(random, ADDRESSES) if by_text else _some(random, EXPRESSIONS, 4)
    return spec | _some(random, TAGS, 2)


def _devices(random: Random) -> list[Json]:
    """Cards at 0a and 0b, each alone or with its functions; some have a serial number."""
    devices: list[Json] = []
    for bus, vendor_id, pf, vf in (("0a", "8086", "1563", "1565"), ("0b", "15b3", "101d", "101e")):
        domain = random.choice(("0000", "0000", "10000"))
        card = {
            "address": f"{domain}:{bus}:00.0",
            "vendor_id": vendor_id,
            "product_id": pf,
            "dev_type": "type-PF",
            "capabilities": random.choice(({}, {"vpd": {"card_serial_number": random.choice(("sn", ""))}})),
        }
        functions = [
            {**card, "address": f"{domain}:{bus}:00.{function}", "product_id": vf, "dev_type": "type-VF"}
            | {"parent_addr": card["address"]}
            for function in range(1, random.randint(1, 4))
        ]
        devices += [card, *functions] if functions else [card | {"dev_type": "type-PCI"}]
    return devices


ALIAS: dict[str, Sequence[Any]] = {
    "capability_type": ("pci", "pci", "x"),
    "vendor_id": ("8086", "80AB", "808", "*", 8086),
    "product_id": ("1563", "1565", "x"),
    "device_type": ("type-VF", "type-VF", "type-PCI", "type-PF", "vdpa"),
    "numa_policy": ("legacy", "legacy", "required", "preferred", "socket", "x"),
    "resource_class": ("CUSTOM_GPU",),
    "traits": ("CUSTOM_A",),
    "live_migratable": ("true", "no", "x"),
    "name": ("a", "b", " a ", "", 1),
    "own": ("x",),
}
ALIAS_SPECS = (
    "a:1",
    "a:2, b:1 ",
    "b:1,a:1",
    "a",
    "c:1",
    "a:0",
    "a:-1",
    "a:x",
    "a:1:1",
    "",
    "a:01",
    " a : 1 ",
)


def aliases(random: Random) -> Json:
    """The values of [pci] alias, and what a flavor asks for by them, with the NUMA policy of the flavor."""
    texts = []
    for name in random.choice((("a",), ("a", "b"), ("a", "a", "b"))):
        usual = {"vendor_id": "8086", "product_id": "1563", "device_type": "type-VF"}
        kept = {key: value for key, value in usual.items() if random.random() < 0.9}
        texts.append(dumps({"name": name, **kept, **_some(random, ALIAS, random.choice((0, 0, 2)))}))
    policy = random.choice((None, None, "required", "socket", "legacy"))
    return {"aliases": texts, "asked": _one(random, ALIAS_SPECS), "numa_policy": policy}


INPUTS: dict[str, Callable[[Random], Json]] = {
    "numa_get_constraints": constraints,
    "PCI aliases and requests": aliases,
    "device_spec": device_specs,
    "network_metadata": networks,
    "resources of a flavor": resources,
}
"""By the name of what is compared."""
