# SPDX-License-Identifier: Apache-2.0
"""What a node's resource providers are computed from."""

from msgspec import Struct

from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Node, Ratios
from tracker_worker.domain.objects import Resources


class ProviderFacts(Struct, frozen=True):
    """The report of a tracked node, its reserve and ratios, and whether its service is disabled."""

    node: str
    resources: Resources
    reserve: Amounts
    ratios: Ratios
    disabled: bool


_READ = ("uuid", "vcpus", "memory_mb", "local_gb", "numa_topology", "inventories", "traits", "providers")
"""The fields of a report that its providers depend on. All others change with each guest."""


def providers_differ(before: Node, after: Node) -> bool:
    """Tell whether the providers of a node may have changed."""
    if (before.reserve, before.ratios, before.disabled) != (after.reserve, after.ratios, after.disabled):
        return True
    old, new = before.resources, after.resources
    if old is None or new is None:
        return old is not new
    return old is not new and any(getattr(old, field) != getattr(new, field) for field in _READ)


def provider_facts(node: Node) -> ProviderFacts | None:
    """Return the facts of a node, None if it is not tracked."""
    if node.resources is None:
        return None
    return ProviderFacts(node.name, node.resources, node.reserve, node.ratios, node.disabled)
