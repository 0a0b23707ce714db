# SPDX-License-Identifier: Apache-2.0
"""Which requests bring a node's providers to the desired state, in which order, with which generations."""

from collections.abc import Iterable
from dataclasses import replace as replaced
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fake_placement import FailingAt, FakePlacement, Killed, NoFaults
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    PlacementRefused,
    PlacementUnavailable,
)
from tracker_worker.placement.provider import child_uuid
from tracker_worker.placement.records import UNREAD, Inventory, KnownProvider, Provider
from tracker_worker.placement.sync import Sync, Synced, SyncInterrupted, in_flight

ROOT = "00000000-0000-0000-0000-000000000001"
OTHER = "00000000-0000-0000-0000-000000000002"
VCPU, MEMORY = Inventory(8, allocation_ratio=4.0), Inventory(16384, reserved=512)

KnownProviders = tuple[KnownProvider, ...]


def node(**changes: Any) -> Provider:
    provider = Provider(
        ROOT, "node", None, {"VCPU": VCPU, "MEMORY_MB": MEMORY}, frozenset({"COMPUTE_NODE", "HW_CPU_X86_AVX"})
    )
    return replace(provider, **changes)


def child(name: str = "pf", parent: str = ROOT, **changes: Any) -> Provider:
    provider = Provider(child_uuid(ROOT, name), name, parent, {"SRIOV_NET_VF": Inventory(4)}, frozenset())
    return replace(provider, **changes)


class Cloud:
    """A fake Placement, a sync, and what is known: as the caller has it stored."""

    def __init__(self) -> None:
        self.placement = FakePlacement()
        self.sync = Sync(self.placement)
        self.known: KnownProviders = ()

    def push(self, *desired: Provider) -> Synced:
        self.known, synced = self._stored(self.sync.push, desired)
        return synced

    def refresh(self, *desired: Provider) -> Synced:
        self.known, synced = self._stored(self.sync.refresh, desired)
        return synced

    def _stored(self, call: Any, desired: tuple[Provider, ...]) -> tuple[KnownProviders, Synced]:
        try:
            synced: Synced = call(desired, self.known)
        except SyncInterrupted as interrupted:
            self.known = interrupted.known
            raise
        return synced.known, synced

    def sent(self) -> list[str]:
        return self.placement.sent()

    def traits(self, uuid: str = ROOT) -> frozenset[str]:
        return self.placement.providers[uuid].traits

    def inventories(self, uuid: str = ROOT) -> dict[str, Inventory]:
        return self.placement.providers[uuid].inventories

    def add_trait(self, name: str, uuid: str = ROOT) -> None:
        with self.placement.others():
            self.placement.ensure_trait(name)
            generation, traits = self.placement.traits(uuid)
            self.placement.put_traits(uuid, generation, traits | {name})

    def allocate(self, name: str = "VCPU", uuid: str = ROOT) -> None:
        self.placement.allocate("server", {uuid: {name: 1}})


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def synced(cloud: Cloud) -> Cloud:
    """A node is synced, with one child."""
    cloud.push(node(), child())
    cloud.sent()
    return cloud


# A first sync, and one without anything to do.


def test_first_sync_creates_and_writes_with_the_generation_of_each_answer(cloud: Cloud) -> None:
    cloud.push(node(aggregates=frozenset({OTHER})), child())
    assert cloud.sent() == [
        "create node",
        "put_inventories node 0",
        "put_traits node 1",
        "put_aggregates node 2",
        "create pf node",
        "put_inventories pf 0",
    ]
    assert [each.generation for each in cloud.known] == [3, 1]


def test_first_sync_of_a_provider_without_contents_only_creates_it(cloud: Cloud) -> None:
    cloud.push(node(inventories={}, traits=frozenset()))
    assert cloud.sent() == ["create node"]


def test_push_without_a_difference_sends_nothing(synced: Cloud) -> None:
    before = synced.known
    assert synced.push(node(), child()).known == before
    assert synced.sent() == []
    assert in_flight((node(), child()), before) == before


def test_change_of_an_inventory_is_one_request_with_the_stored_generation(synced: Cloud) -> None:
    synced.push(node(inventories={"VCPU": VCPU}), child())
    assert synced.sent() == ["put_inventories node 2"]
    assert synced.inventories() == {"VCPU": VCPU}


def test_change_of_traits_is_one_request_with_the_stored_generation(synced: Cloud) -> None:
    synced.push(node(traits=frozenset({"COMPUTE_NODE"})), child())
    assert synced.sent() == ["put_traits node 2"]
    assert synced.traits() == {"COMPUTE_NODE"}


def test_change_of_inventory_and_traits_chains_the_generations(synced: Cloud) -> None:
    synced.push(node(inventories={"VCPU": VCPU}, traits=frozenset()), child())
    assert synced.sent() == ["put_inventories node 2", "put_traits node 3"]


def test_ratio_that_a_database_rounds_is_not_written_again(synced: Cloud) -> None:
    desired = node(inventories={"VCPU": replace(VCPU, allocation_ratio=16.123456789)})
    synced.push(desired, child())
    synced.placement.providers[ROOT].inventories["VCPU"] = replace(VCPU, allocation_ratio=16.1235)
    synced.add_trait("CUSTOM_SEEN")
    synced.sent()
    assert [each.foreign for each in synced.refresh(desired, child()).known] == [0, 0]
    assert synced.sent() == ["tree node", "inventories node", "traits node"]


# Somebody else changes a provider.


def test_conflict_reads_the_provider_again_and_writes_what_still_differs(synced: Cloud) -> None:
    synced.allocate()
    synced.push(node(inventories={"VCPU": VCPU, "MEMORY_MB": VCPU}), child())
    assert synced.sent() == [
        "put_inventories node 2",
        "inventories node",
        "traits node",
        "put_inventories node 3",
    ]


def test_conflict_with_what_is_desired_by_now_writes_nothing(synced: Cloud) -> None:
    with synced.placement.others():
        synced.placement.put_inventories(ROOT, 2, {"VCPU": VCPU})
    synced.push(node(inventories={"VCPU": VCPU}), child())
    assert synced.sent() == ["put_inventories node 2", "inventories node", "traits node"]


def test_traits_of_others_survive_a_change_of_ours(synced: Cloud) -> None:
    synced.add_trait("CUSTOM_OPERATOR")
    synced.push(node(traits=frozenset({"COMPUTE_NODE"})), child())
    assert synced.traits() == {"COMPUTE_NODE", "CUSTOM_OPERATOR"}
    synced.push(node(traits=frozenset()), child())
    assert synced.traits() == {"CUSTOM_OPERATOR"}


def test_disabled_trait_that_somebody_else_has_left_goes(cloud: Cloud) -> None:
    """With it the scheduler would pass the node over for ever: nova-compute took it away, and is gone."""
    with cloud.placement.others():
        cloud.placement.create(ROOT, "node", None)
        cloud.placement.put_traits(ROOT, 0, {"COMPUTE_STATUS_DISABLED"})
    cloud.push(node(traits=frozenset({"COMPUTE_NODE"})))
    assert cloud.traits() == {"COMPUTE_NODE"}


def test_traits_of_others_that_a_conflict_of_inventories_passed_by_survive_the_next_change(
    synced: Cloud,
) -> None:
    """The generation after the conflict would allow a write of traits: they have been read with it."""
    synced.add_trait("CUSTOM_OPERATOR")
    synced.push(node(inventories={"VCPU": VCPU}), child())
    synced.push(node(inventories={"VCPU": VCPU}, traits=frozenset()), child())
    assert synced.traits() == {"CUSTOM_OPERATOR"}


def test_provider_that_changes_at_every_try_is_left_for_later(synced: Cloud) -> None:
    synced.placement.faults = _Before(synced.allocate)
    with pytest.raises(SyncInterrupted) as caught:
        synced.push(node(inventories={"VCPU": VCPU}), child())
    assert isinstance(caught.value.cause, GenerationConflict)
    assert len([line for line in synced.sent() if line.startswith("put_inventories")]) == 5


class _Before:
    """Something happens before each request."""

    def __init__(self, happens: Any) -> None:
        self._happens = happens

    def before(self) -> None:
        self._happens()

    def after(self) -> None:
        pass


def test_deleted_provider_is_created_again_at_once(synced: Cloud) -> None:
    del synced.placement.providers[child().uuid]
    synced.push(node(), child(inventories={"SRIOV_NET_VF": Inventory(8)}))
    assert synced.sent() == ["put_inventories pf 1", "create pf node", "put_inventories pf 0"]


def test_deleted_node_is_created_again_with_its_children(synced: Cloud) -> None:
    synced.placement.providers.clear()
    synced.push(node(inventories={"VCPU": VCPU}), child())
    assert synced.sent() == [
        "put_inventories node 2",
        "create node",
        "put_inventories node 0",
        "put_traits node 1",
        "create pf node",
        "put_inventories pf 0",
    ]


def test_deleted_parent_of_a_new_provider_is_created_again(synced: Cloud) -> None:
    synced.placement.providers.clear()
    synced.push(node(), child(), child("vf"))
    assert synced.sent() == [
        "create vf node",
        "tree node",
        "create node",
        "put_inventories node 0",
        "put_traits node 1",
        "create vf node",
        "put_inventories vf 0",
    ]
    synced.refresh(node(), child(), child("vf"))
    assert child().uuid in synced.placement.providers


# Names.


def test_node_that_exists_already_is_taken_over(cloud: Cloud) -> None:
    with cloud.placement.others():
        cloud.placement.create(ROOT, "node", None)
        cloud.placement.put_inventories(ROOT, 0, {"VCPU": MEMORY})
    cloud.add_trait("CUSTOM_OPERATOR")
    cloud.push(node())
    assert cloud.sent() == [
        "create node",
        "tree node",
        "inventories node",
        "traits node",
        "put_inventories node 2",
        "put_traits node 3",
    ]
    assert cloud.traits() == node().traits | {"CUSTOM_OPERATOR"}


def test_child_of_the_same_name_is_taken_over_with_its_uuid_and_its_children_with_it(cloud: Cloud) -> None:
    with cloud.placement.others():
        cloud.placement.create(ROOT, "node", None)
        cloud.placement.create(OTHER, "pf", ROOT)
    vf = child("vf", parent=child().uuid)
    cloud.push(node(), child(), vf)
    assert [each.uuid for each in cloud.known] == [ROOT, OTHER, vf.uuid]
    assert cloud.placement.providers[vf.uuid].parent == OTHER
    cloud.sent()
    cloud.push(node(), child(), vf)
    assert cloud.sent() == []
    cloud.push(node())
    assert cloud.sent() == ["delete vf", "delete pf"]


def test_name_of_a_provider_elsewhere_is_refused_with_its_uuid(cloud: Cloud) -> None:
    with cloud.placement.others():
        cloud.placement.create(OTHER, "node", None)
    with pytest.raises(SyncInterrupted, match=f"provider {OTHER} has its name") as caught:
        cloud.push(node())
    assert isinstance(caught.value.cause, DuplicateProvider)
    assert cloud.sent() == ["create node", "tree node", "named node"]
    assert [each.generation for each in cloud.known] == [UNREAD]


def test_renamed_node_is_renamed(synced: Cloud) -> None:
    synced.push(node(name="node.example"), child())
    assert synced.sent() == ["rename node node.example"]


def swapping() -> tuple[FakePlacement, dict[str, KnownProviders]]:
    """Two synced nodes, each with a child named after it."""
    placement, known = FakePlacement(), dict[str, KnownProviders]()
    for root, name in ((ROOT, "one"), (OTHER, "two")):
        known[root] = Sync(placement).push(named(root, name), ()).known
    return placement, known


def named(root: str, name: str) -> tuple[Provider, Provider]:
    below = f"{name}_pf"
    return node(uuid=root, name=name), child(below, root, uuid=child_uuid(root, below))


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("turns", [(ROOT, OTHER, ROOT, OTHER), (OTHER, OTHER, ROOT, OTHER, ROOT)])
def test_nodes_that_swap_their_names_both_get_them(turns: tuple[str, ...], forgotten: bool) -> None:
    """Each refuses the other its name until one of them has given up its own."""
    placement, known = swapping()
    if forgotten:  # Their rows have the names: what is known is the other's provider, which is left out.
        known = dict.fromkeys(known, ())
    desired = {ROOT: named(ROOT, "two"), OTHER: named(OTHER, "one")}
    for root in turns:
        try:
            known[root] = Sync(placement).refresh(desired[root], known[root]).known
        except SyncInterrupted as interrupted:
            assert isinstance(interrupted.cause, DuplicateProvider)
            known[root] = interrupted.known
    for root in (ROOT, OTHER):
        known[root] = Sync(placement).refresh(desired[root], known[root]).known
    assert {uuid: each.name for uuid, each in placement.providers.items()} == {
        each.uuid: each.name for providers in desired.values() for each in providers
    }
    assert not any(each.foreign for providers in known.values() for each in providers)


def test_node_gives_up_its_former_name_once_and_says_for_whom(synced: Cloud) -> None:
    with synced.placement.others():
        synced.placement.create(OTHER, "node.example", None)
    for requests in (["rename node node.example", "rename node node"], [f"rename {ROOT} node.example"]):
        with pytest.raises(SyncInterrupted, match=f"provider {OTHER} has its name") as caught:
            synced.push(node(name="node.example"), child())
        assert isinstance(caught.value.cause, DuplicateProvider)
        assert [each for each in synced.sent() if each.startswith("rename")] == requests
        assert synced.placement.providers[ROOT].name == ROOT


def test_child_that_moves_gets_its_new_parent(synced: Cloud) -> None:
    cell = child("numa", inventories={})
    synced.push(node(), cell, child(parent=cell.uuid))
    assert synced.sent() == ["create numa node", "rename pf pf numa"]
    assert synced.placement.providers[child().uuid].parent == cell.uuid


def test_reinstalled_node_gives_its_name_to_its_new_uuid(synced: Cloud) -> None:
    synced.push(node(uuid=OTHER))
    assert synced.sent()[:3] == ["delete pf", "delete node", "create node"]
    assert synced.placement.providers.keys() == {OTHER}


def test_unknown_custom_names_are_created_once(cloud: Cloud) -> None:
    desired = node(
        inventories={"CUSTOM_GOLD": Inventory(1)}, traits=frozenset({"COMPUTE_NODE", "CUSTOM_RAID"})
    )
    cloud.push(desired)
    assert cloud.sent() == [
        "create node",
        "put_inventories node 0",
        "ensure_class CUSTOM_GOLD",
        "put_inventories node 0",
        "put_traits node 1",
        "ensure_trait CUSTOM_RAID",
        "put_traits node 1",
    ]
    other = Cloud()
    other.placement.custom_names = cloud.placement.custom_names
    other.push(desired)
    assert other.sent() == ["create node", "put_inventories node 0", "put_traits node 1"]


def test_refused_contents_are_not_tried_again_where_no_name_is_missing(cloud: Cloud) -> None:
    with pytest.raises(SyncInterrupted) as caught:
        cloud.push(node(inventories={"VCPU": Inventory(0)}))
    assert isinstance(caught.value.cause, PlacementRefused)
    assert cloud.sent() == ["create node", "put_inventories node 0"]


def test_custom_name_that_somebody_deleted_is_created_again(synced: Cloud) -> None:
    gold = node(inventories={"CUSTOM_GOLD": Inventory(1)})
    synced.push(gold, child())
    synced.push(node(), child())
    synced.placement.custom_names.clear()
    synced.push(gold, child())
    assert synced.inventories().keys() == {"CUSTOM_GOLD"}


class _Meanwhile(FakePlacement):
    """Another node is synced after the first write of traits was refused, and before that is answered."""

    def __init__(self, another: Provider) -> None:
        super().__init__()
        self.sync = Sync(self)
        self._another: Provider | None = another

    def put_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> int:
        try:
            return super().put_traits(uuid, generation, traits)
        finally:
            if another := self._another:
                self._another = None
                self.sync.push((another,), ())


def test_nodes_that_need_the_same_missing_trait_at_once_all_get_it() -> None:
    """A refusal would park the change of one for good."""
    traits = frozenset({"CUSTOM_RAID"})
    one, another = node(traits=traits), node(uuid=OTHER, name="another", traits=traits)
    placement = _Meanwhile(another)
    placement.sync.push((one,), ())
    assert [each.traits for each in placement.providers.values()] == [traits, traits]


# What has allocations.


def test_class_with_allocations_is_kept_without_room_until_they_are_released(synced: Cloud) -> None:
    synced.allocate()
    desired = node(inventories={"MEMORY_MB": MEMORY})
    result = synced.push(desired, child())
    assert synced.sent() == [
        "put_inventories node 2",
        "inventories node",
        "traits node",
        "put_inventories node 3",
        "allocations_of node",
        "put_inventories node 3",
    ]
    assert synced.inventories() == {"MEMORY_MB": MEMORY, "VCPU": replace(VCPU, reserved=8)}
    assert result.kept == {"node": frozenset({"VCPU"})}
    assert result.undeleted == ()
    synced.push(desired, child())
    assert synced.sent() == []
    assert synced.refresh(desired, child()).kept == {"node": frozenset({"VCPU"})}
    assert synced.sent() == ["tree node", "allocations_of node"]
    synced.placement.delete_allocations("server")
    assert synced.refresh(desired, child()).kept == {}
    assert synced.sent() == ["tree node", "allocations_of node", "put_inventories node 4"]


def test_kept_class_that_is_desired_again_is_kept_no_more(synced: Cloud) -> None:
    synced.allocate()
    synced.push(node(inventories={"MEMORY_MB": MEMORY}), child())
    assert synced.push(node(), child()).kept == {}
    assert synced.inventories() == node().inventories


def test_only_the_class_that_has_allocations_is_kept(synced: Cloud) -> None:
    synced.allocate()
    synced.push(node(inventories={}), child())
    assert synced.inventories() == {"VCPU": replace(VCPU, reserved=8)}


def test_children_that_are_not_desired_are_deleted_the_deepest_first(synced: Cloud) -> None:
    synced.push(node(), child(), child("vf", parent=child().uuid))
    synced.sent()
    synced.push(node())
    assert synced.sent() == ["delete vf", "delete pf"]
    assert [each.name for each in synced.known] == ["node"]


def test_provider_with_allocations_stays_without_room_until_they_are_released(synced: Cloud) -> None:
    synced.allocate("SRIOV_NET_VF", child().uuid)
    result = synced.push(node())
    assert synced.sent() == [
        "delete pf",
        "tree pf",
        "put_inventories pf 1",
        "inventories pf",
        "traits pf",
        "put_inventories pf 2",
    ]
    assert result.kept == {}
    assert result.undeleted == ("pf",)
    assert synced.inventories(child().uuid) == {"SRIOV_NET_VF": Inventory(4, reserved=4)}
    synced.push(node())
    assert synced.sent() == []
    assert synced.refresh(node()).undeleted == ("pf",)
    assert synced.sent() == ["tree node", "delete pf"]
    synced.placement.delete_allocations("server")
    assert synced.refresh(node()).undeleted == ()
    assert synced.sent() == ["tree node", "delete pf"]
    assert synced.placement.providers.keys() == {ROOT}


def test_undeleted_provider_that_is_desired_again_has_room_again(synced: Cloud) -> None:
    synced.allocate("SRIOV_NET_VF", child().uuid)
    synced.push(node())
    assert synced.push(node(), child()).undeleted == ()
    assert synced.inventories(child().uuid) == child().inventories


def test_removed_node_is_deleted_children_first(synced: Cloud) -> None:
    assert synced.push().known == ()
    assert synced.sent() == ["delete pf", "delete node"]


def test_removed_node_with_allocations_stays_without_room(synced: Cloud) -> None:
    synced.allocate("SRIOV_NET_VF", child().uuid)
    assert synced.push().undeleted == ("node", "pf")
    assert {name: each.reserved for name, each in synced.inventories().items()} == {
        "VCPU": 8,
        "MEMORY_MB": 16384,
    }
    synced.sent()
    synced.push()
    assert synced.sent() == []
    synced.placement.delete_allocations("server")
    assert synced.refresh().known == ()
    assert synced.sent() == ["tree node", "delete pf", "delete node"]


def test_child_of_somebody_else_keeps_its_parent(synced: Cloud) -> None:
    with synced.placement.others():
        synced.placement.create(OTHER, "agent", ROOT)
    synced.refresh(node(), child())
    assert synced.push().undeleted == ("node",)
    assert synced.placement.providers.keys() == {ROOT, OTHER}


# What is interrupted.


@pytest.mark.parametrize("carried_out", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("number", range(1, 6))
def test_sync_goes_on_after_a_lost_request(cloud: Cloud, number: int, carried_out: bool) -> None:
    """What was answered is not sent again."""
    cloud.placement.faults = FailingAt(number, PlacementUnavailable("no answer"), carried_out)
    with pytest.raises(SyncInterrupted) as caught:
        cloud.push(node(), child())
    assert isinstance(caught.value.cause, PlacementUnavailable)
    first = cloud.sent()
    cloud.push(node(), child())
    repeated = [line for line in cloud.sent() if line in first[:-1] and not line.startswith("create")]
    assert repeated == []
    _is_as_first_desired(cloud)


def test_change_whose_answer_was_lost_is_known_when_it_is_taken_back(synced: Cloud) -> None:
    synced.placement.faults = FailingAt(1, PlacementUnavailable("no answer"), carried_out=True)
    with pytest.raises(SyncInterrupted):
        synced.push(node(inventories={"VCPU": VCPU}), child())
    synced.sent()
    synced.push(node(), child())
    assert synced.sent() == ["tree node", "inventories node", "traits node", "put_inventories node 3"]
    assert synced.inventories() == node().inventories


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
def test_sync_converges_after_a_kill_at_every_request_of_a_first_one(
    cloud: Cloud, number: int, carried_out: bool
) -> None:
    """With what was stored before, and without anything."""
    cloud.placement.faults = FailingAt(number, Killed(), carried_out)
    with pytest.raises(Killed):
        cloud.push(node(), child())
    assert cloud.known == ()
    cloud.push(node(), child())
    _is_as_first_desired(cloud)


@pytest.mark.parametrize("number", range(1, 6))
def test_nothing_is_left_of_a_killed_sync_that_is_not_desired_any_more(cloud: Cloud, number: int) -> None:
    desired = (node(traits=frozenset({"COMPUTE_STATUS_DISABLED"})), child())
    cloud.placement.faults = FailingAt(number, Killed(), carried_out=True)
    before, cloud.known = cloud.known, in_flight(desired, cloud.known)
    with pytest.raises(Killed):
        cloud.sync.push(desired, before)
    cloud.push(node(traits=frozenset()))
    assert cloud.placement.providers.keys() == {ROOT}
    assert cloud.traits() == frozenset()


def test_child_of_a_killed_sync_that_was_not_stored_is_found_by_a_refresh(synced: Cloud) -> None:
    synced.sync.push((node(), child(), child("vf")), synced.known)
    synced.refresh(node(), child())
    assert synced.placement.providers.keys() == {ROOT, child().uuid}


def test_child_of_a_killed_sync_that_was_not_stored_goes_with_its_node(synced: Cloud) -> None:
    synced.sync.push((node(), child(), child("vf")), synced.known)
    assert synced.push().known == ()
    assert synced.placement.providers == {}


def _is_as_first_desired(cloud: Cloud) -> None:
    cloud.sent()
    cloud.push(node(), child())
    assert cloud.sent() == []
    cloud.refresh(node(), child())
    assert cloud.sent() == ["tree node"]
    assert {uuid: each.inventories for uuid, each in cloud.placement.providers.items()} == {
        ROOT: node().inventories,
        child().uuid: child().inventories,
    }
    assert cloud.traits() == node().traits


# A refresh.


def test_refresh_without_a_change_is_one_request(synced: Cloud) -> None:
    synced.refresh(node(), child())
    assert synced.sent() == ["tree node"]


def test_refresh_after_an_allocation_reads_that_provider_and_writes_nothing(synced: Cloud) -> None:
    synced.allocate()
    assert [each.foreign for each in synced.refresh(node(), child()).known] == [0, 0]
    assert synced.sent() == ["tree node", "inventories node", "traits node"]
    synced.refresh(node(), child())
    assert synced.sent() == ["tree node"]


def test_refresh_counts_and_takes_back_what_somebody_else_changed(synced: Cloud) -> None:
    for count in (1, 2):
        with synced.placement.others():
            generation, _ = synced.placement.inventories(ROOT)
            synced.placement.put_inventories(ROOT, generation, {"VCPU": MEMORY})
        assert [each.foreign for each in synced.refresh(node(), child()).known] == [count, 0]
        assert synced.sent() == [
            "tree node",
            "inventories node",
            "traits node",
            f"put_inventories node {generation + 1}",
        ]
        synced.push(node(), child())
        assert [each.foreign for each in synced.known] == [count, 0]
    assert synced.inventories() == node().inventories
    assert [each.foreign for each in synced.refresh(node(), child()).known] == [0, 0]


@pytest.mark.parametrize("change", ["trait taken away", "renamed", "deleted"])
def test_refresh_counts_and_takes_back_every_kind_of_change(synced: Cloud, change: str) -> None:
    pf = child().uuid
    match change:
        case "trait taken away":
            synced.placement.put_traits(ROOT, 2, ["COMPUTE_NODE"])
        case "renamed":
            synced.placement.rename(ROOT, "other", None)
        case "deleted":
            synced.placement.delete(pf)
    assert [each.foreign for each in synced.refresh(node(), child()).known] == (
        [0, 1] if change == "deleted" else [1, 0]
    )
    expected = replaced(synced.placement.providers[ROOT], name="node", traits=node().traits)
    assert synced.placement.providers[ROOT] == expected
    assert synced.placement.providers[pf].inventories == child().inventories


def test_trait_that_somebody_else_adds_is_no_foreign_change(synced: Cloud) -> None:
    synced.add_trait("CUSTOM_OPERATOR")
    assert [each.foreign for each in synced.refresh(node(), child()).known] == [0, 0]


def test_write_of_ours_whose_answer_was_lost_is_no_foreign_change(synced: Cloud) -> None:
    desired = node(inventories={"VCPU": VCPU})
    synced.placement.faults = FailingAt(1, PlacementUnavailable("no answer"), carried_out=True)
    with pytest.raises(SyncInterrupted):
        synced.push(desired, child())
    assert [each.foreign for each in synced.refresh(node(), child()).known] == [0, 0]


def test_node_that_was_never_synced_is_created_by_a_refresh(cloud: Cloud) -> None:
    cloud.refresh(node())
    assert cloud.sent() == ["tree " + ROOT, "create node", "put_inventories node 0", "put_traits node 1"]


def test_a_refused_child_keeps_no_other_provider_from_its_state(synced: Cloud) -> None:
    gone = synced.known[1].name
    bad = child("a-bad", traits=frozenset({"HW_UNKNOWN"}))
    below = child("a-bad-1", parent=bad.uuid)
    synced.placement.unknown_names.add("HW_UNKNOWN")
    with pytest.raises(SyncInterrupted) as interrupted:
        synced.push(node(), bad, below, child("good"))
    assert isinstance(interrupted.value.cause, PlacementRefused)
    names = {each.name for each in synced.placement.providers.values()}
    assert "good" in names
    assert gone not in names
    assert synced.inventories(child("good").uuid)


def test_below_a_provider_that_cannot_be_created_nothing_is_asked(cloud: Cloud) -> None:
    with cloud.placement.others():
        cloud.placement.create(OTHER, "bad", None)
    with pytest.raises(SyncInterrupted) as interrupted:
        cloud.push(node(), child("bad"), child("below", parent=child("bad").uuid), child("good"))
    assert isinstance(interrupted.value.cause, DuplicateProvider)
    assert not [each for each in cloud.sent() if "below" in each]
    assert child("good").uuid in cloud.placement.providers


def test_a_node_whose_own_provider_is_refused_is_not_asked_about_further(cloud: Cloud) -> None:
    cloud.placement.faults = FailingAt(1, PlacementRefused("403: policy"), carried_out=False)
    with pytest.raises(SyncInterrupted):
        cloud.push(node(), child())
    assert len(cloud.sent()) == 1


def test_a_provider_whose_child_was_moved_there_by_a_lost_request_is_deleted_too(cloud: Cloud) -> None:
    above, moved = child("above"), child("moved")
    cloud.push(node(), above, moved)
    cloud.placement.faults = FailingAt(1, PlacementUnavailable("lost"), carried_out=True)
    with pytest.raises(SyncInterrupted):
        cloud.push(node(), above, replace(moved, parent=above.uuid))
    cloud.placement.faults = NoFaults()
    assert cloud.placement.providers[moved.uuid].parent == above.uuid
    assert cloud.push(node()).undeleted == ()
    assert cloud.placement.providers.keys() == {ROOT}
