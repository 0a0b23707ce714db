# SPDX-License-Identifier: Apache-2.0
"""Random reports and trees on a real Placement: it has exactly what is desired, and nothing is sent twice."""

import uuid
from random import Random
from typing import Any

import pytest
from msgspec import convert

from tests import samples
from tests.integration.placement_clients import Observed, client_of
from tests.servers.placement import Placement
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Ratios
from tracker_worker.domain.objects import Resources
from tracker_worker.domain.provider_facts import ProviderFacts
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.contents import same_inventories
from tracker_worker.placement.provider import desired
from tracker_worker.placement.records import KnownProvider, Provider
from tracker_worker.placement.sync import Sync

TREES, CHAOS_TREES = 12, 500
REPORTS = 3
"""Reports of each node, one after the other."""
CLASSES = ("VGPU", "SRIOV_NET_VF", "CUSTOM_GOLD", "CUSTOM_SILVER")
TRAITS = ("HW_CPU_X86_AVX", "CUSTOM_RAID", "CUSTOM_FAST", "COMPUTE_STATUS_DISABLED")
CHILDREN = ("pf0", "pf1", "numa0", "vgpu")


def inventories(chance: Random) -> dict[str, dict[str, float]]:
    return {name: inventory(chance) for name in CLASSES if chance.random() < 0.5}


def inventory(chance: Random) -> dict[str, float]:
    total = chance.randint(1, 100)
    optional = {
        "reserved": chance.randint(0, total - 1),
        "max_unit": chance.randint(1, total),
        "allocation_ratio": chance.choice((1.0, 1.5, 16.0, 16.123456789)),
    }
    return {"total": total, **{name: each for name, each in optional.items() if chance.random() < 0.5}}


def traits(chance: Random) -> list[str]:
    return [name for name in TRAITS if chance.random() < 0.5]


def children(chance: Random, node: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in chance.sample(CHILDREN, chance.randint(0, len(CHILDREN))):
        parent = chance.choice([None, *(each["name"] for each in found)])
        child = {"name": f"{node}_{name}", "inventories": inventories(chance), "traits": traits(chance)}
        found.append(child if parent is None else child | {"parent": parent})
    return found


def facts(chance: Random, node_uuid: str, node: str) -> ProviderFacts:
    report = samples.a_report(
        node_uuid,
        node,
        vcpus=chance.randint(0, 64),
        memory_mb=chance.randint(1024, 65536),
        local_gb=chance.randint(0, 100),
        traits=traits(chance),
        providers=children(chance, node),
    )
    if chance.random() < 0.3:
        report["inventories"] = inventories(chance)
    ratios = Ratios(chance.choice((1.0, 16.0, 4.123456789)), chance.choice((1.0, 1.5)), 1.0)
    return ProviderFacts(
        node, convert(report, Resources), Amounts(0, 512, 0), ratios, disabled=chance.random() < 0.3
    )


def check(client: PlacementClient, node_uuid: str, wanted: tuple[Provider, ...]) -> None:
    rows = {row.uuid: row for row in client.tree(node_uuid)}
    assert rows.keys() == {provider.uuid for provider in wanted}
    for provider in wanted:
        row = rows[provider.uuid]
        assert (row.name, row.parent) == (provider.name, provider.parent)
        generation, found = client.inventories(provider.uuid)
        assert generation == row.generation
        assert same_inventories(found, provider.inventories)
        assert client.traits(provider.uuid)[1] == provider.traits


@pytest.mark.timeout(600)
def test_random_reports_converge_and_a_second_push_sends_nothing(
    placement: Placement, request: pytest.FixtureRequest
) -> None:
    observed = Observed()
    sync, reader = Sync(client_of(placement.url, observed)), client_of(placement.url)
    for seed in range(CHAOS_TREES if request.config.getoption("--chaos") else TREES):
        chance, node_uuid = Random(seed), str(uuid.uuid4())
        known: tuple[KnownProvider, ...] = ()
        for _ in range(REPORTS):
            wanted = desired(facts(chance, node_uuid, f"node-{node_uuid}"))
            known = sync.push(wanted, known).known
            check(reader, node_uuid, wanted)
            sent = len(observed.outcomes)
            assert sync.push(wanted, known).known == known
            assert len(observed.outcomes) == sent, f"seed {seed}"
            known = sync.refresh(wanted, known).known
            assert len(observed.outcomes) == sent + 1, f"seed {seed}"
        assert sync.push((), known).known == ()
        assert reader.tree(node_uuid) == []
