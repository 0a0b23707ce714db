# SPDX-License-Identifier: Apache-2.0
"""The NUMA topology that a flavor and an image request, before it is fitted to a host.

Source: nova.virt.hardware.numa_get_constraints (34.0), with the wording of its exceptions. An empty text
counts as absent.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.extra_specs import truncated
from tracker_worker.domain.fields import PciNumaPolicy
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.numa.extra_specs import asked, cpu_numbers, guest_cpus
from tracker_worker.domain.numa.memory import refuse_memory_contradictions
from tracker_worker.domain.numa.pages import ANY, LARGE, SIZE_CODES, page_size_kb
from tracker_worker.domain.numa.policies import policies_of
from tracker_worker.domain.numa.topology import PINNED_POLICIES
from tracker_worker.domain.objects import GuestCell, GuestTopology
from tracker_worker.domain.pci.specs import pci_numa_policy

NODES_MAX = 128
"""nova.objects.ImageMetaProps.NUMA_NODES_MAX"""

_NODE_COUNT = re.compile(r"[1-9][0-9]*")
_NO_SIZE = re.compile(r"0+B?")
_MEMORY = re.compile(r"[0-9]{1,10}")

_Share = tuple[frozenset[int], int]
"""The CPUs and the memory in MB of a guest cell."""


def constraints_of(flavor: Flavor, image_properties: Mapping[str, str]) -> GuestTopology | None:
    """Return the requested topology, None without a request.

    A number of nodes, a page size, persistent memory or dedicated CPUs request one. Raises RequestRefused for
    an invalid value, for an image that contradicts its flavor, for more than NODES_MAX nodes or
    GUEST_CPUS_MAX vcpus.
    """
    if not flavor.extra_specs and not image_properties:
        return None
    policies = policies_of(flavor, image_properties)
    nodes = _node_count(flavor, image_properties)
    pagesize = _page_size(flavor, image_properties)
    refuse_memory_contradictions(flavor, image_properties)
    pinned = policies.cpu in PINNED_POLICIES
    if not (nodes or pagesize or pinned or _asks_persistent_memory(flavor)):
        return None
    cells = [
        GuestCell(
            id=number,
            cpuset=sorted(cpus - policies.dedicated),
            pcpuset=sorted(cpus & policies.dedicated),
            memory=memory,
            pagesize=pagesize,
            cpu_policy=policies.cpu,
            cpu_thread_policy=policies.threads,
        )
        for number, (cpus, memory) in enumerate(_shares(flavor, image_properties, nodes or 1))
    ]
    return GuestTopology(cells, policies.emulator_threads)


def pci_numa_policy_of(flavor: Flavor, image_properties: Mapping[str, str]) -> PciNumaPolicy | None:
    """Return the requested NUMA affinity of PCI devices, None without a request.

    Raises RequestRefused when flavor and image differ, and for an unknown policy.
    Source: nova.virt.hardware.get_pci_numa_policy_constraint.
    """
    if not flavor.extra_specs and not image_properties:
        return None
    of_flavor, of_image = asked(flavor, image_properties, "pci_numa_affinity_policy")
    if of_flavor and of_image and of_flavor != of_image:
        raise RequestRefused(
            "Image property 'hw_pci_numa_affinity_policy' is not permitted to override the "
            "'hw:pci_numa_affinity_policy' flavor extra spec."
        )
    return pci_numa_policy(of_flavor or of_image)


def _node_count(flavor: Flavor, image_properties: Mapping[str, str]) -> int | None:
    of_flavor, of_image = asked(flavor, image_properties, "numa_nodes")
    if of_flavor and of_image:
        raise _overridden("hw_numa_nodes")
    nodes = of_flavor or of_image
    if nodes is None:
        return None
    if not _NODE_COUNT.fullmatch(nodes):
        raise RequestRefused(_bad_property("numa_nodes", nodes, "greater than 0"))
    if len(nodes) > len(str(NODES_MAX)) or int(nodes) > NODES_MAX:
        raise RequestRefused(_bad_property("numa_nodes", nodes, f"of at most {NODES_MAX}"))
    return int(nodes)


def _page_size(flavor: Flavor, image_properties: Mapping[str, str]) -> int | None:
    """Return the requested size in KiB or as one of SIZE_CODES, None without one and for a size of 0.

    An image may request a size only if the flavor requests `large` or `any`.
    """
    of_flavor, of_image = asked(flavor, image_properties, "mem_page_size")
    if of_flavor is None:
        if of_image is None:
            return None
        raise _page_size_forbidden(of_image, "<empty>")
    size = _size_of(of_flavor)
    if of_image is None:
        return size or None
    if size not in (ANY, LARGE):
        raise _page_size_forbidden(of_image, of_flavor)
    return _size_of(of_image) or None


def _size_of(text: str) -> int:
    if text in SIZE_CODES:
        return SIZE_CODES[text]
    if _NO_SIZE.fullmatch(text):
        return 0
    try:
        return page_size_kb(text)
    except ValueError:
        raise RequestRefused(f"Invalid memory page size '{truncated(text)}'") from None


def _page_size_forbidden(size: str, against: str) -> RequestRefused:
    return RequestRefused(f"Page size {truncated(size)} forbidden against '{truncated(against)}'")


def _asks_persistent_memory(flavor: Flavor) -> bool:
    """Tell whether hw:pmem names a label. Source: nova.virt.hardware.get_vpmems."""
    return any(label.strip() for label in flavor.extra_specs.get("hw:pmem", "").split(","))


def _shares(flavor: Flavor, image_properties: Mapping[str, str], nodes: int) -> list[_Share]:
    """Return CPUs and memory of each cell: as listed by flavor or image, else split evenly."""
    cpus = _listed(flavor, image_properties, "numa_cpus")
    memory = _listed(flavor, image_properties, "numa_mem")
    if not cpus and not memory:
        return _even_shares(flavor, nodes)
    if len(cpus) != nodes or len(memory) != nodes:
        raise RequestRefused("CPU and memory allocation must be provided for all NUMA nodes")
    return list(zip(_listed_cpus(flavor, cpus), _listed_memory(flavor, memory), strict=True))


def _listed(flavor: Flavor, image_properties: Mapping[str, str], name: str) -> list[str]:
    """Return the texts of the cells 0, 1, ... up to the first cell without one."""
    of_flavor = _numbered(flavor.extra_specs, f"hw:{name}")
    of_image = _numbered(image_properties, f"hw_{name}")
    if of_flavor and of_image:
        raise _overridden(f"hw_{name}")
    return of_flavor or of_image


def _numbered(mapping: Mapping[str, str], prefix: str) -> list[str]:
    keys = (f"{prefix}.{number}" for number in range(NODES_MAX))
    return [mapping[key] for key in takewhile(mapping.__contains__, keys)]


def _even_shares(flavor: Flavor, nodes: int) -> list[_Share]:
    if flavor.vcpus % nodes or flavor.memory_mb % nodes:
        raise RequestRefused(
            "Instance CPUs and/or memory cannot be evenly distributed across instance NUMA nodes. Explicit "
            "assignment of CPUs and memory to nodes is required"
        )
    cpus, size = sorted(guest_cpus(flavor)), flavor.vcpus // nodes
    memory = flavor.memory_mb // nodes
    return [(frozenset(cpus[size * node : size * (node + 1)]), memory) for node in range(nodes)]


def _listed_cpus(flavor: Flavor, specs: Sequence[str]) -> list[frozenset[int]]:
    """Return the CPUs of each cell; each of the guest's CPUs must be in exactly one cell."""
    left = set(guest_cpus(flavor))
    cells = [cpu_numbers(spec) for spec in specs]
    for cpu in (cpu for cell in cells for cpu in sorted(cell)):
        if cpu >= flavor.vcpus:
            raise RequestRefused(f"CPU number {cpu} is larger than max {flavor.vcpus - 1}")
        if cpu not in left:
            raise RequestRefused(f"CPU number {cpu} is assigned to two nodes")
        left.remove(cpu)
    if left:
        numbers = truncated(", ".join(map(str, sorted(left))))
        raise RequestRefused(f"CPU number {{{numbers}}} is not assigned to any node")
    return cells


def _listed_memory(flavor: Flavor, texts: Sequence[str]) -> list[int]:
    """Return the memory of each cell in MB; the sum must be the flavor's memory."""
    for node, text in enumerate(texts):
        if not _MEMORY.fullmatch(text.strip()):
            raise RequestRefused(_bad_property(f"numa_mem.{node}", text, "of MB"))
    memory = [int(text) for text in texts]
    if sum(memory) != flavor.memory_mb:
        raise RequestRefused(f"{sum(memory)} MB of memory assigned, but expected {flavor.memory_mb} MB")
    return memory


def _overridden(name: str) -> RequestRefused:
    return RequestRefused(
        f"Image property '{name}' is not permitted to override NUMA configuration set against the flavor"
    )


def _bad_property(name: str, value: str, which: str) -> str:
    return f"The property '{name}' cannot be '{truncated(value)}'. It must be a number {which}"
