# SPDX-License-Identifier: Apache-2.0
"""What a refused command lacks, as a closed set to count by.

The text of a refusal is Nova's wording and part of the contract, so that it is what tells the reasons.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from tracker_worker.domain.claims import (
    NUMA_AND_PCI_REFUSED,
    NUMA_REFUSED,
    PAGE_SIZE_REFUSED,
    PCI_REFUSED,
)
from tracker_worker.domain.errors import Refusal

_CAPACITY = re.compile(r"(?:Free|Total) (memory|disk|vcpu) ")
_NODE = re.compile(r"Node .* is not (?:tracked|available)")


class RefusalReason(StrEnum):
    """Why a command was refused. A claim may have several reasons."""

    MEMORY = "memory"
    DISK = "disk"
    VCPU = "vcpu"
    NUMA = "numa"  #: the requested topology, alone or with devices, fits on no host cells
    PCI = "pci"  #: too few free devices match
    PAGE_SIZE = "page_size"  #: a running guest would change its page size
    NODE = "node"  #: the node is not tracked, or not available
    REQUEST = "request"  #: no node can fulfil it: flavor, image or alias
    NODE_CONFLICT = "node_conflict"  #: a report has the uuid or the name of another node
    NODE_IN_USE = "node_in_use"  #: `remove_node` of a node that has claims


_TEXTS = {
    NUMA_REFUSED: RefusalReason.NUMA,
    NUMA_AND_PCI_REFUSED: RefusalReason.NUMA,
    PCI_REFUSED: RefusalReason.PCI,
    PAGE_SIZE_REFUSED: RefusalReason.PAGE_SIZE,
}


def refusal_reasons(refusal: Refusal, text: str) -> frozenset[RefusalReason]:
    """Return the reasons of a refusal, at least one, from its code and its text."""
    if refusal is Refusal.NODE_CONFLICT:
        return frozenset([RefusalReason.NODE_CONFLICT])
    if refusal is Refusal.OTHER:
        return frozenset([RefusalReason.NODE_IN_USE])
    return frozenset(_of_claim(text)) or frozenset([RefusalReason.REQUEST])


def _of_claim(text: str) -> Iterator[RefusalReason]:
    for part in text.split("; "):
        if found := _CAPACITY.match(part):
            yield RefusalReason(found[1])
        elif part in _TEXTS:
            yield _TEXTS[part]
        elif _NODE.fullmatch(part):
            yield RefusalReason.NODE
