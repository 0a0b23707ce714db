# SPDX-License-Identifier: Apache-2.0
"""Nova's tracker makes the same inventories and traits of the same host.

`make nova-providers` writes down what Nova's own code makes of them.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import a_report, decided
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Resources
from tracker_worker.domain.provider_facts import provider_facts
from tracker_worker.placement.provider import desired
from tracker_worker.placement.provider_config import parse
from tracker_worker.placement.records import Inventory, Provider

Json = dict[str, Any]

RECORDED: list[Json] = json.loads((Path(__file__).parent / "nova-34.0.0-providers.json").read_text())
NODE = "compute-1"
EACH = pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])


def ours(case: Json) -> tuple[Provider, ...]:
    report = a_report(
        resources=msgspec.convert(case["resources"], Resources), node=NODE, disabled=case["disabled"]
    )
    node, _ = decided(Node(NODE), report)
    facts = provider_facts(node)
    assert facts is not None
    return desired(facts, parse(case["files"]))


def comparable(name: str, parent: str | None, inventories: Json, traits: Any) -> Json:
    return {
        "name": name,
        "parent": parent,
        "inventories": msgspec.convert(inventories, dict[str, Inventory]),
        "traits": sorted(traits),
    }


@EACH
def test_providers_are_those_of_nova(case: Json) -> None:
    made = ours(case)
    names = {each.uuid: each.name for each in made}
    here = [
        comparable(each.name, each.parent and names[each.parent], dict(each.inventories), each.traits)
        for each in made
    ]
    theirs = [
        comparable(each["name"], each["parent"], each["inventories"], each["traits"])
        for each in case["providers"]
    ]
    assert here == theirs
    assert made[0].uuid == case["providers"][0]["uuid"]


def test_cases_have_what_placement_can_be_told() -> None:
    """The comparison is worth as much as its cases."""
    providers = [each for case in RECORDED for each in case["providers"]]
    classes = {name for each in providers for name in each["inventories"]}
    assert {"VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "VGPU", "MEM_ENCRYPTION_CONTEXT"} <= classes
    assert {"COMPUTE_STATUS_DISABLED", "OWNER_NOVA"} <= {
        name for each in providers for name in each["traits"]
    }
    assert any("PCPU" in each["inventories"] and "VCPU" not in each["inventories"] for each in providers)
    assert any(each["parent"] for each in providers)
    assert any(case["files"] for case in RECORDED)
    assert len(RECORDED) >= 12
