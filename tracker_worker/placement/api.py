# SPDX-License-Identifier: Apache-2.0
"""The requests of this service to Placement, as a protocol: `client` makes them over HTTP.

Each method is one request. All raise PlacementUnavailable and PlacementRefused; what else a method raises, it
says. A generation that a method returns is the provider's after the request.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from tracker_worker.placement.records import Allocation, ConsumerAllocations, Inventory

OK = "ok"
CONFLICT = "conflict"
REFUSED = "refused"
NOT_FOUND = "not_found"
UNAVAILABLE = "unavailable"
OUTCOMES = (OK, CONFLICT, REFUSED, NOT_FOUND, UNAVAILABLE)
"""Of a request, for metrics."""

Observe = Callable[[str, float], None]
"""Takes the outcome of a request, one of OUTCOMES, and its seconds. Any thread."""


class ProviderRow(Struct, frozen=True):
    """A provider as a list of providers shows it."""

    uuid: str
    name: str
    generation: int
    parent: str | None = None


class ProviderApi(Protocol):
    """What a sync asks of Placement. Any thread."""

    def tree(self, root: str) -> list[ProviderRow]:
        """Return the providers of the tree in which a provider is; none if it does not exist."""
        ...

    def named(self, name: str) -> ProviderRow | None:
        """Return the provider with this name."""
        ...

    def create(self, uuid: str, name: str, parent: str | None) -> int:
        """Create a provider; return its generation. Raises DuplicateProvider, PlacementRefused for a parent
        that does not exist.
        """
        ...

    def rename(self, uuid: str, name: str, parent: str | None) -> int:
        """Give a provider its name and its parent; return its generation, which stays. Raises
        ProviderNotFound, DuplicateProvider, PlacementRefused for a parent that does not exist.
        """
        ...

    def delete(self, uuid: str) -> None:
        """Delete a provider. Raises ProviderNotFound, ProviderInUse."""
        ...

    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        """Return generation and inventories. Raises ProviderNotFound."""
        ...

    def put_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        """Replace all inventories. Raises ProviderNotFound, GenerationConflict, InventoryInUse."""
        ...

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return generation and traits. Raises ProviderNotFound."""
        ...

    def put_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> int:
        """Replace all traits. Raises ProviderNotFound, GenerationConflict."""
        ...

    def aggregates(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return generation and aggregates. Raises ProviderNotFound."""
        ...

    def put_aggregates(self, uuid: str, generation: int, aggregates: Iterable[str]) -> int:
        """Replace all aggregates. Raises ProviderNotFound, GenerationConflict."""
        ...

    def ensure_class(self, name: str) -> None:
        """Create a custom resource class unless it exists."""
        ...

    def ensure_trait(self, name: str) -> None:
        """Create a custom trait unless it exists."""
        ...


class AllocationApi(Protocol):
    """What the audit asks of Placement besides. Any thread."""

    def allocations_of(self, provider: str) -> list[Allocation]:
        """Return what consumers hold of a provider. Raises ProviderNotFound."""
        ...

    def consumer_allocations(self, consumer: str) -> ConsumerAllocations | None:
        """Return all that a consumer holds, None if that is nothing."""
        ...

    def put_allocations(self, allocations: ConsumerAllocations) -> None:
        """Replace all that a consumer holds, which may be nothing. Raises GenerationConflict."""
        ...


class PlacementApi(ProviderApi, AllocationApi, Protocol):
    """All requests to Placement. Any thread."""
