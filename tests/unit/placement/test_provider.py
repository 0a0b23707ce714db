# SPDX-License-Identifier: Apache-2.0
"""What Placement should have of a node: by Nova's rules where the report says nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from tests import samples
from tracker_worker.domain.child_providers import ChildProvider
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Ratios
from tracker_worker.domain.objects import Resources
from tracker_worker.domain.provider_facts import ProviderFacts
from tracker_worker.placement.errors import DesiredStateInvalid
from tracker_worker.placement.provider import cpus_of, desired, digest
from tracker_worker.placement.records import MAX_UNIT, Inventory, Provider

NODE, UUID = samples.NODE, samples.NODE_UUID
AGGREGATE = "99999999-9999-4999-8999-999999999999"
Json = dict[str, Any]


def facts(
    reserve: Amounts | None = None,
    ratios: Ratios | None = None,
    *,
    node: str = NODE,
    disabled: bool = False,
    **report: Any,
) -> ProviderFacts:
    return ProviderFacts(
        node,
        convert(samples.a_report(**report), Resources),
        Amounts() if reserve is None else reserve,
        Ratios(1.0, 1.0, 1.0) if ratios is None else ratios,
        disabled,
    )


def root(*args: Any, **kwargs: Any) -> Provider:
    return desired(facts(*args, **kwargs))[0]


def refusal(*args: Any, **kwargs: Any) -> DesiredStateInvalid:
    with pytest.raises(DesiredStateInvalid) as caught:
        desired(facts(*args, **kwargs))
    return caught.value


def child(name: str, parent: str | None = None, **more: Any) -> Json:
    return {"name": name, "inventories": {}, "traits": [], "parent": parent, **more}


def cells(*sets: tuple[list[int], list[int]]) -> Json:
    return {
        "cells": [
            {"id": number, "cpuset": shared, "pcpuset": dedicated, "memory": 1024}
            for number, (shared, dedicated) in enumerate(sets)
        ]
    }


def test_root_has_the_nodes_totals_reserves_and_ratios() -> None:
    provider = root(Amounts(1, 512, 1500), Ratios(16.0, 1.5, 2.0))
    assert provider == Provider(
        UUID,
        NODE,
        None,
        {
            "VCPU": Inventory(8, 1, max_unit=8, allocation_ratio=16.0),
            "MEMORY_MB": Inventory(16384, 512, max_unit=16384, allocation_ratio=1.5),
            "DISK_GB": Inventory(100, 2, max_unit=100, allocation_ratio=2.0),
        },
        frozenset({"COMPUTE_NODE", "OWNER_NOVA"}),
    )


@pytest.mark.parametrize(("disk_mb", "reserved"), [(0, 0), (1, 1), (1024, 1), (1025, 2), (2048, 2)])
def test_reserved_disk_is_rounded_up(disk_mb: int, reserved: int) -> None:
    assert root(Amounts(disk_mb=disk_mb)).inventories["DISK_GB"].reserved == reserved


@pytest.mark.parametrize(
    ("field", "name"), [("vcpus", "VCPU"), ("memory_mb", "MEMORY_MB"), ("local_gb", "DISK_GB")]
)
def test_class_without_a_total_is_left_out_whatever_is_reserved(field: str, name: str) -> None:
    assert name not in root(Amounts(1, 1, 1), **{field: 0}).inventories


@pytest.mark.parametrize(
    ("sets", "counts"),
    [
        ([], (8, 0)),
        ([([0, 1], [0, 1]), ([2, 3], [2, 3])], (8, 0)),
        ([([0, 1, 2, 3], []), ([4, 5], [])], (8, 0)),
        ([([0, 1], [2, 3]), ([4, 5], [6, 7])], (4, 4)),
        ([([], [2, 3]), ([], [6, 7])], (0, 4)),
        ([([0, 1, 2, 3], []), ([], [4, 5, 6, 7])], (4, 4)),
    ],
    ids=["no cells", "no dedicated set", "shared set", "both sets", "dedicated set", "a cell each"],
)
def test_dedicated_cpus_are_those_that_are_not_shared(
    sets: list[tuple[list[int], list[int]]], counts: tuple[int, int]
) -> None:
    report = facts(numa_topology=cells(*sets)).resources
    assert cpus_of(report) == counts


def test_dedicated_cpus_are_not_overcommitted_or_reserved() -> None:
    provider = root(Amounts(vcpus=1), Ratios(16.0, 1.0, 1.0), numa_topology=cells(([0, 1], [2, 3])))
    assert provider.inventories["VCPU"] == Inventory(2, 1, max_unit=2, allocation_ratio=16.0)
    assert provider.inventories["PCPU"] == Inventory(2, max_unit=2)


def test_reported_inventories_are_all_that_the_root_has() -> None:
    provider = root(inventories={"CUSTOM_GOLD": {"total": 1, "reserved": 1, "max_unit": None}})
    assert provider.inventories == {"CUSTOM_GOLD": Inventory(1, 1, 1, MAX_UNIT, 1, 1.0)}


def test_root_that_reports_no_inventory_has_none() -> None:
    assert root(inventories={}).inventories == {}


def test_reported_class_without_a_total_is_left_out() -> None:
    assert root(inventories={"VGPU": {"total": 0, "max_unit": 0}}).inventories == {}


def test_fractions_of_an_inventory_are_cut_but_that_of_the_ratio() -> None:
    sent = {"total": 8.9, "reserved": 0.5, "allocation_ratio": 2}
    assert root(inventories={"VCPU": sent}).inventories == {"VCPU": Inventory(8, allocation_ratio=2.0)}


@pytest.mark.parametrize("disabled", [False, True])
def test_reported_traits_are_kept_and_the_disabled_one_follows_the_service(disabled: bool) -> None:
    provider = root(traits=["HW_CPU_X86_AVX2", "COMPUTE_STATUS_DISABLED", "CUSTOM_A"], disabled=disabled)
    expected = {"COMPUTE_NODE", "OWNER_NOVA", "HW_CPU_X86_AVX2", "CUSTOM_A"}
    assert provider.traits == expected | ({"COMPUTE_STATUS_DISABLED"} if disabled else set())


def test_children_follow_their_parents_in_any_order_of_the_report() -> None:
    report = [
        child("vf-b", "pf"),
        child("numa-1"),
        child("pf", "numa-0"),
        child("numa-0"),
        child("vf-a", "pf"),
    ]
    providers = desired(facts(providers=report))
    assert [each.name for each in providers] == [NODE, "numa-0", "numa-1", "pf", "vf-a", "vf-b"]
    uuids = {each.name: each.uuid for each in providers}
    parents = [None, NODE, NODE, "numa-0", "pf", "pf"]
    assert [each.parent for each in providers] == [name and uuids[name] for name in parents]
    assert digest(providers) == digest(desired(facts(providers=report[::-1])))


def test_child_has_its_inventories_traits_and_aggregates() -> None:
    sent = child("gpu", inventories={"VGPU": {"total": 16, "max_unit": 1}}, traits=["CUSTOM_NVIDIA_35"])
    plain, grouped = desired(facts(providers=[sent, sent | {"name": "gpu-2", "aggregates": [AGGREGATE]}]))[1:]
    assert plain.inventories == {"VGPU": Inventory(16, max_unit=1)}
    assert plain.traits == {"CUSTOM_NVIDIA_35"}
    assert plain.aggregates is None
    assert grouped.aggregates == frozenset({AGGREGATE})


def test_uuids_are_in_lower_case_as_placement_stores_them() -> None:
    """It would not find what it has created: the provider would be left, with the name of the node."""
    group = child("gpu", aggregates=[AGGREGATE.upper()])
    own, below = desired(facts(uuid="AAAAAAAA-0000-4000-8000-00000000000A", providers=[group]))
    assert own.uuid == below.parent == "aaaaaaaa-0000-4000-8000-00000000000a"
    assert below.aggregates == frozenset({AGGREGATE.lower()})


def test_childs_uuid_depends_on_the_uuid_of_the_node_and_its_own_name() -> None:
    def uuid(name: str, **more: Any) -> str:
        return desired(facts(providers=[child(name)], **more))[1].uuid

    assert uuid("gpu") == "30a162c2-a624-557c-91bc-5f24894ab2c9"
    assert len({uuid("gpu"), uuid("gpu-2"), uuid("gpu", uuid="22222222-2222-4222-8222-222222222222")}) == 3


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"CUSTOM_lower": {"total": 1}}, "inventories.CUSTOM_lower"),
        ({"CUSTOM_": {"total": 1}}, "inventories.CUSTOM_"),
        ({"X" * 255: {"total": 1}, "VCPU": {"total": 2**31}}, "inventories.VCPU.total"),
        ({"VCPU": {"total": -1}}, "inventories.VCPU.total"),
        ({"VCPU": {"reserved": 1}}, "inventories.VCPU.total"),
        ({"VCPU": {"total": None}}, "inventories.VCPU.total"),
        ({"VCPU": {"total": 1, "reserved": -1}}, "inventories.VCPU.reserved"),
        ({"VCPU": {"total": 1, "reserved": 2}}, "inventories.VCPU.reserved"),
        ({"VCPU": {"total": 1, "min_unit": 0}}, "inventories.VCPU.min_unit"),
        ({"VCPU": {"total": 1, "max_unit": 0}}, "inventories.VCPU.max_unit"),
        ({"VCPU": {"total": 1, "step_size": 0}}, "inventories.VCPU.step_size"),
        ({"VCPU": {"total": 1, "allocation_ratio": -0.5}}, "inventories.VCPU.allocation_ratio"),
        ({"VCPU": {"total": 1, "allocation_ratio": 1e39}}, "inventories.VCPU.allocation_ratio"),
        ({"VCPU": {"total": 1, "totl": 1}}, "inventories.VCPU.totl"),
    ],
)
@pytest.mark.parametrize("below", [False, True])
def test_inventory_that_placement_would_refuse_is_named(sent: Json, field: str, below: bool) -> None:
    report: Json = {"providers": [child("gpu", inventories=sent)]} if below else {"inventories": sent}
    error = refusal(**report)
    assert (error.node, error.provider, error.field) == (NODE, "gpu" if below else NODE, field)
    assert str(error).startswith(
        f"node node-1: provider gpu: {field}: " if below else f"node node-1: {field}: "
    )


@pytest.mark.parametrize(
    ("reserve", "text"),
    [
        (Amounts(9), "inventories.VCPU.reserved: 9 (reserved_host_cpus) is more than the total, 8"),
        (
            Amounts(memory_mb=16385),
            "inventories.MEMORY_MB.reserved: 16385 (reserved_host_memory_mb) is more than the total, 16384",
        ),
        (
            Amounts(disk_mb=102401),
            "inventories.DISK_GB.reserved: 101 (reserved_host_disk_mb) is more than the total, 100",
        ),
    ],
)
def test_reserve_beyond_the_total_is_refused_with_its_option(reserve: Amounts, text: str) -> None:
    assert str(refusal(reserve)) == f"node node-1: {text}"


def test_all_may_be_reserved() -> None:
    assert root(Amounts(8)).inventories["VCPU"].reserved == 8


@pytest.mark.parametrize(
    ("report", "provider", "field"),
    [
        ({"uuid": "not-a-uuid"}, NODE, "uuid"),
        ({"uuid": "11111111111141118111111111111111"}, NODE, "uuid"),
        ({"node": "n" * 201}, "n" * 201, "name"),
        ({"traits": ["HW CPU"]}, NODE, "traits: HW CPU"),
        ({"traits": ["x" * 255]}, NODE, f"traits: {'x' * 255}"),
        ({"providers": [child("gpu", traits=["hw"])]}, "gpu", "traits: hw"),
        ({"providers": [child("gpu", aggregates=["rack-1"])]}, "gpu", "aggregates"),
    ],
)
def test_name_that_placement_would_refuse_is_named(report: Json, provider: str, field: str) -> None:
    error = refusal(**report)
    assert (error.provider, error.field) == (provider, field)


names = st.sampled_from([f"p{number}" for number in range(8)])
inventories = st.dictionaries(
    st.sampled_from(["VCPU", "VGPU", "CUSTOM_A"]),
    st.fixed_dictionaries(
        {"total": st.integers(0, 9)},
        optional={
            "reserved": st.none() | st.just(0),
            "allocation_ratio": st.none() | st.sampled_from([1, 1.5]),
        },
    ),
    max_size=3,
)


@st.composite
def children(draw: st.DrawFn) -> list[Json]:
    """A tree in any order: the parent of each is one that was drawn before."""
    drawn = draw(st.lists(names, unique=True))
    tree = []
    for number, name in enumerate(drawn):
        parent = draw(st.sampled_from([None, *drawn[:number]]))
        traits = draw(st.lists(st.sampled_from(["CUSTOM_A", "HW_B"])))
        tree.append(child(name, parent, inventories=draw(inventories), traits=traits))
    return draw(st.permutations(tree))


@given(children(), st.randoms(use_true_random=False))
def test_any_tree_is_the_same_in_any_order_and_needs_each_parent_before_its_children(
    tree: list[Json], random: Any
) -> None:
    providers = desired(facts(providers=tree))
    seen: set[str | None] = {None}
    for each in providers:
        assert each.parent in seen
        seen.add(each.uuid)
    assert len(seen) == len(providers) + 1 == len(tree) + 2
    by_name = {each.name: each for each in providers}
    for sent in tree:
        assert by_name[sent["name"]].parent == by_name[sent["parent"] or NODE].uuid
    shuffled = random.sample(tree, len(tree))
    assert desired(facts(providers=shuffled)) == providers


@given(children(), children())
def test_digests_are_equal_where_the_providers_are(one: list[Json], other: list[Json]) -> None:
    first, second = desired(facts(providers=one)), desired(facts(providers=other))
    assert (digest(first) == digest(second)) is (first == second)


def test_digest_is_the_same_in_any_process() -> None:
    """Another version that computes another digest sends each node's inventories once more."""
    child_of_all = child("gpu", traits=["B", "A"], inventories={"VGPU": {"total": 1}}, aggregates=[AGGREGATE])
    providers = desired(facts(Amounts(1, 512, 0), providers=[child_of_all], traits=["HW_B", "HW_A"]))
    assert digest(providers) == "2593e62517f3fa4cbf6968115e167b0a0580da9d7c1fa0ee4bb79d8adb1e096f"


def test_default_that_is_sent_makes_no_other_digest() -> None:
    sent = {
        "total": 4,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": MAX_UNIT,
        "step_size": 1,
        "allocation_ratio": 1,
    }
    assert digest(desired(facts(inventories={"VCPU": sent}))) == digest(
        desired(facts(inventories={"VCPU": {"total": 4}}))
    )


def test_child_that_was_made_by_hand_is_checked_too() -> None:
    """A ledger of another version may hold what decoding refuses today."""
    known = facts().resources
    assert convert({**samples.a_report(), "providers": []}, Resources) != known
    with pytest.raises(DesiredStateInvalid, match="provider : name"):
        desired(
            ProviderFacts(
                NODE,
                Resources(UUID, "host-1", 1, 1, 1, providers=[ChildProvider("", inventories={}, traits=[])]),
                Amounts(),
                Ratios(1.0, 1.0, 1.0),
                False,
            )
        )
