# SPDX-License-Identifier: Apache-2.0
"""The contents of one provider: what differs from the desired state is written, and nothing else."""

import math
from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.errors import InventoryInUse, PlacementRefused
from tracker_worker.placement.provider import DISABLED
from tracker_worker.placement.records import UNREAD, Inventory, KnownProvider, Provider

TRIES = 5
"""How often a write is tried while somebody else changes the provider."""

_RATIO_TOLERANCE = 1e-5
"""MariaDB and MySQL keep Placement's ratios in single precision: they do not come back as they were sent."""


def same_inventories(one: Mapping[str, Inventory], other: Mapping[str, Inventory]) -> bool:
    """Tell whether two inventories are equal, as exactly as Placement's database keeps them."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Inventory, other: Inventory) -> bool:
    alike = replace(one, allocation_ratio=other.allocation_ratio) == other
    return alike and math.isclose(one.allocation_ratio, other.allocation_ratio, rel_tol=_RATIO_TOLERANCE)


def wanted_inventories(provider: Provider, known: KnownProvider) -> dict[str, Inventory]:
    """Return the inventories that a provider shall have: the desired ones, and the kept ones without room."""
    kept = {name: known.inventories[name] for name in known.kept & known.inventories.keys()}
    return _without_room(kept) | dict(provider.inventories)


def wanted_traits(provider: Provider, known: KnownProvider) -> frozenset[str]:
    """Return the traits that a provider shall have: the desired ones, and those of others.

    Whether the service is disabled is ours to say: a trait that nova-compute has left would keep the
    scheduler from the node for ever.
    """
    return (known.traits - known.own_traits - {DISABLED}) | provider.traits


def is_as_desired(provider: Provider, known: KnownProvider) -> bool:
    """Tell whether a provider has the desired contents."""
    return (
        same_inventories(wanted_inventories(provider, known), known.inventories)
        and wanted_traits(provider, known) == known.traits
        and provider.aggregates in (None, known.aggregates)
    )


def about_to_write(provider: Provider, known: KnownProvider | None, parent: str | None) -> KnownProvider:
    """Return what is known of a provider while its writes are on their way: the same if nothing is to be
    written. What they may leave behind is named there, so that it can be taken away later.
    """
    if known is None:
        return KnownProvider(provider.uuid, provider.name, UNREAD, parent, own_traits=provider.traits)
    named = (known.name, known.parent) == (provider.name, parent)
    if named and is_as_desired(provider, known):
        return known
    return replace(known, own_traits=known.own_traits | provider.traits, in_doubt=True)


def is_as_written(before: KnownProvider, found: KnownProvider) -> bool:
    """Tell whether a provider still has what was written: traits that others added are no difference."""
    return (
        (before.name, before.parent, before.aggregates) == (found.name, found.parent, found.aggregates)
        and same_inventories(before.inventories, found.inventories)
        and before.traits & before.own_traits <= found.traits
    )


def _without_room(inventories: Mapping[str, Inventory]) -> dict[str, Inventory]:
    return {name: replace(each, reserved=each.total) for name, each in inventories.items()}


class ProviderContents:
    """Reads and writes inventories, traits and aggregates of providers, each of which exists.

    A method returns the provider as it is known after its requests. Any thread: two threads at once may
    create one custom name twice, which changes nothing.

    All raise PlacementError; GenerationConflict and ProviderNotFound are the caller's to answer.
    """

    def __init__(self, api: PlacementApi) -> None:
        self._api = api

    def read(self, known: KnownProvider) -> KnownProvider:
        """Read the contents: 2 requests, 3 where the aggregates are ours.

        The generation is that of the first answer: if the provider changes in between, the next write is
        refused and nothing is overwritten unseen.
        """
        generation, inventories = self._api.inventories(known.uuid)
        _, traits = self._api.traits(known.uuid)
        aggregates = known.aggregates
        if aggregates is not None:
            _, aggregates = self._api.aggregates(known.uuid)
        return replace(
            known,
            generation=generation,
            inventories=inventories,
            traits=traits,
            aggregates=aggregates,
            in_doubt=False,
        )

    def put_inventories(self, provider: Provider, known: KnownProvider) -> KnownProvider:
        """Write the inventories if they differ. A class that has allocations is kept, all of it reserved."""
        for _ in range(TRIES):
            wanted = wanted_inventories(provider, known)
            kept = frozenset(wanted.keys() - provider.inventories.keys())
            if same_inventories(wanted, known.inventories):
                return replace(known, kept=kept)
            try:
                generation = self._put_inventories(known, wanted)
            except InventoryInUse as raised:
                in_use = raised
                known = replace(known, kept=known.kept | self._allocated(known.uuid))
            else:
                return replace(known, generation=generation, inventories=wanted, kept=kept)
        raise in_use

    def put_traits(self, provider: Provider, known: KnownProvider) -> KnownProvider:
        """Write the traits if they differ. Of those that are there only our own are taken away."""
        wanted = wanted_traits(provider, known)
        if wanted != known.traits:
            generation = _put_with_names(
                wanted - known.traits,
                self._api.ensure_trait,
                lambda: self._api.put_traits(known.uuid, known.generation, sorted(wanted)),
            )
            known = replace(known, generation=generation, traits=wanted)
        return replace(known, own_traits=provider.traits)

    def put_aggregates(self, provider: Provider, known: KnownProvider) -> KnownProvider:
        """Write the aggregates if they are ours and differ."""
        if provider.aggregates is None:
            return replace(known, aggregates=None)
        if known.aggregates is None:
            known = replace(known, aggregates=self._api.aggregates(known.uuid)[1])
        if known.aggregates == provider.aggregates:
            return known
        generation = self._api.put_aggregates(known.uuid, known.generation, sorted(provider.aggregates))
        return replace(known, generation=generation, aggregates=provider.aggregates)

    def reserve_all(self, known: KnownProvider) -> KnownProvider:
        """Reserve all inventories of a provider that was to go, so that nothing more is placed there."""
        wanted = _without_room(known.inventories)
        if not same_inventories(wanted, known.inventories):
            known = replace(known, generation=self._put_inventories(known, wanted), inventories=wanted)
        return replace(known, kept=frozenset(wanted), undeleted=True)

    def still_kept(self, known: KnownProvider) -> KnownProvider:
        """Keep only the classes that have allocations still: 1 request where some are kept, else none."""
        return replace(known, kept=known.kept & self._allocated(known.uuid)) if known.kept else known

    def _put_inventories(self, known: KnownProvider, wanted: Mapping[str, Inventory]) -> int:
        return _put_with_names(
            wanted.keys() - known.inventories.keys(),
            self._api.ensure_class,
            lambda: self._api.put_inventories(known.uuid, known.generation, wanted),
        )

    def _allocated(self, uuid: str) -> frozenset[str]:
        """Return the resource classes that consumers hold of a provider."""
        return frozenset(name for held in self._api.allocations_of(uuid) for name in held.resources)


def _put_with_names(added: Collection[str], ensure: Callable[[str], None], put: Callable[[], int]) -> int:
    """Write; where that is refused, which an unknown name is, create the custom names and write again.

    All of them are created, whoever may have done so before: somebody else may have deleted one since.
    """
    custom = sorted(name for name in added if name.startswith("CUSTOM_"))
    try:
        return put()
    except PlacementRefused:
        if not custom:
            raise
    for name in custom:
        ensure(name)
    return put()
