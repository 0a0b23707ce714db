# SPDX-License-Identifier: Apache-2.0
"""Mutants of the sync of resource providers, each of which a world of one node must find."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from msgspec.structs import replace

from tests.simulation.mutants import Patch, planted
from tracker_worker.placement import contents, tree_sync
from tracker_worker.placement.contents import ProviderContents, wanted_inventories, wanted_traits
from tracker_worker.placement.errors import PlacementUnavailable
from tracker_worker.placement.known_tree import deepest_first
from tracker_worker.placement.records import UNREAD, KnownProvider, Provider
from tracker_worker.placement.tree_sync import TreeSync

PROVIDER_MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}


def mutant(patch: Patch) -> Patch:
    """Register a mutant under the name of its function."""
    PROVIDER_MUTANTS[patch.__name__] = planted(patch)
    return patch


@mutant
def stores_contents_before_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    write = TreeSync._write

    def store_first(tree: TreeSync, provider: Provider) -> None:
        try:
            write(tree, provider)
        except PlacementUnavailable:
            known = tree._known[tree._uuids[provider.uuid]]
            if known.generation != UNREAD:
                inventories, traits = wanted_inventories(provider, known), wanted_traits(provider, known)
                tree._store(replace(known, inventories=inventories, traits=traits, in_doubt=False))
            raise

    monkeypatch.setattr(TreeSync, "_write", store_first)


@mutant
def does_not_chain_the_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    put = ProviderContents.put_inventories

    def keep_generation(self: ProviderContents, provider: Provider, known: KnownProvider) -> KnownProvider:
        return replace(put(self, provider, known), generation=known.generation)

    monkeypatch.setattr(ProviderContents, "put_inventories", keep_generation)


@mutant
def takes_the_generation_of_a_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be newer than the contents that are known."""
    place = TreeSync._place

    def take_generation(tree: TreeSync, provider: Provider, known: KnownProvider) -> KnownProvider:
        placed = place(tree, provider, known)
        if (placed.name, placed.parent) == (known.name, known.parent):
            return placed
        return replace(placed, generation=tree._api.rename(placed.uuid, placed.name, placed.parent))

    monkeypatch.setattr(TreeSync, "_place", take_generation)


@mutant
def overwrites_the_traits_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "wanted_traits", lambda provider, _known: provider.traits)


@mutant
def reads_no_traits_after_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write of traits has the right generation, and overwrites what others have added."""
    read = ProviderContents.read

    def read_inventories(self: ProviderContents, known: KnownProvider) -> KnownProvider:
        return replace(read(self, known), traits=known.traits)

    monkeypatch.setattr(ProviderContents, "read", read_inventories)


@mutant
def drops_a_kept_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "wanted_inventories", lambda provider, _known: dict(provider.inventories))


@mutant
def forgets_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    put = ProviderContents.put_inventories

    def forget(self: ProviderContents, provider: Provider, known: KnownProvider) -> KnownProvider:
        return replace(put(self, provider, known), kept=frozenset())

    monkeypatch.setattr(ProviderContents, "put_inventories", forget)


@mutant
def leaves_room_in_a_kept_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_without_room", dict)


@mutant
def keeps_a_class_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProviderContents, "still_kept", lambda _self, known: known)


@mutant
def deletes_parents_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_sync, "deepest_first", lambda known: deepest_first(known)[::-1])


@mutant
def trusts_a_lost_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for when an answer was lost is not read before the next request."""

    def certain(provider: Provider, known: KnownProvider | None, parent: str | None) -> KnownProvider:
        marked = contents.about_to_write(provider, known, parent)
        return replace(marked, in_doubt=False)

    monkeypatch.setattr(tree_sync, "about_to_write", certain)


@mutant
def notes_nothing_down_before_a_push(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed worker left behind seems to be another's."""
    monkeypatch.setattr("tests.provider_world.in_flight", lambda _desired, known: known)


@mutant
def takes_a_moved_generation_for_a_read_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(_tree: TreeSync, known: KnownProvider, row: Any) -> KnownProvider:
        return replace(known, name=row.name, parent=row.parent, generation=row.generation, undeleted=False)

    monkeypatch.setattr(TreeSync, "_found", believe)


@mutant
def does_not_look_for_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_sync, "child_uuid", lambda _root, _name: "")
