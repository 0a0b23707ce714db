# SPDX-License-Identifier: Apache-2.0
"""What a node's resource providers are computed from: the part of a report that Placement is told of."""

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


def provider_facts(node: Node) -> ProviderFacts | None:
    """Return the facts of a node, None if it is not tracked."""
    if node.resources is None:
        return None
    return ProviderFacts(node.name, node.resources, node.reserve, node.ratios, node.disabled)
