# SPDX-License-Identifier: Apache-2.0
"""Every refusal has a reason from a closed set, whatever its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NODE, SETTINGS, a_flavor, a_node, an_instance, command
from tracker_worker.domain.claims import (
    NUMA_AND_PCI_REFUSED,
    NUMA_REFUSED,
    PAGE_SIZE_REFUSED,
    PCI_REFUSED,
)
from tracker_worker.domain.commands import LedgerCommand
from tracker_worker.domain.decide import decide
from tracker_worker.domain.errors import Refusal
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.refusal_reasons import RefusalReason, refusal_reasons


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Free memory 3584.00 MB < requested 4096 MB", {"memory"}),
        ("Total disk 10.00 GB < requested 20 GB; Free vcpu 0.00 VCPU < requested 2 VCPU", {"disk", "vcpu"}),
        (NUMA_REFUSED, {"numa"}),
        (f"Free memory 1.00 MB < requested 2 MB; {NUMA_AND_PCI_REFUSED}; {PCI_REFUSED}",
         {"memory", "numa", "pci"}),
        (PAGE_SIZE_REFUSED, {"page_size"}),
        ("Node a; b is not tracked", {"request"}),
        (f"Node {NODE} is not available", {"node"}),
        ("PCI alias gpu is not defined", {"request"}),
    ],
)  # fmt: skip
def test_text_of_a_claims_refusal_has_its_reasons(text: str, expected: set[str]) -> None:
    assert refusal_reasons(Refusal.NO_ROOM, text) == expected


@pytest.mark.parametrize(
    ("limits", "node", "expected"),
    [
        (Limits(memory_mb=1, vcpu=1, disk_gb=1), a_node(), {"memory", "disk", "vcpu"}),
        (None, Node(NODE), {"node"}),
    ],
)
def test_claim_that_is_refused_by_the_rules_has_their_reasons(
    limits: Limits | None, node: Node, expected: set[str]
) -> None:
    claim = command("instance_claim", instance=an_instance("i", a_flavor(2)), limits=limits)
    assert isinstance(claim, LedgerCommand)
    decision = decide(node, claim, SETTINGS, {})
    assert decision.refusal is not None
    assert refusal_reasons(decision.refusal, decision.reason or "") == expected


@given(st.sampled_from(Refusal), st.text())
def test_every_refusal_has_a_reason(refusal: Refusal, text: str) -> None:
    assert refusal_reasons(refusal, text)
    assert refusal_reasons(refusal, text) <= set(RefusalReason)
