# SPDX-License-Identifier: Apache-2.0
"""The requests of `api` over HTTP."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from tracker_worker.placement.api import ProviderRow
from tracker_worker.placement.errors import PlacementRefused
from tracker_worker.placement.failures import OF_A_PROVIDER, OF_THE_ROOT
from tracker_worker.placement.http import MICROVERSION, PlacementHTTP, path
from tracker_worker.placement.records import Allocation, ConsumerAllocations, Inventory

T = TypeVar("T")

_PROVIDERS = "resource_providers"
_NO_TYPE = "unknown"
"""What Placement shows as the type of a consumer that has none, as those of Nova, and does not take back."""
_WITHOUT_CONSUMER_TYPES = "1.37"
"""The last microversion in which the type of a consumer is neither asked for nor changed."""


class _Version(Struct):
    min_version: str
    max_version: str


class _Versions(Struct):
    versions: list[_Version]


class _Provider(Struct):
    uuid: str
    name: str
    generation: int
    parent: str | None = field(name="parent_provider_uuid", default=None)

    def row(self) -> ProviderRow:
        return ProviderRow(self.uuid, self.name, self.generation, self.parent)


class _Providers(Struct):
    resource_providers: list[_Provider]


class _Generation(Struct):
    resource_provider_generation: int


class _Inventories(_Generation):
    inventories: dict[str, Inventory]


class _Traits(_Generation):
    traits: frozenset[str]


class _Aggregates(_Generation):
    aggregates: frozenset[str]


class _Resources(Struct):
    resources: dict[str, int]


class _AllocationsOfProvider(Struct):
    allocations: dict[str, _Resources]


class _AllocationsOfConsumer(Struct):
    allocations: dict[str, _Resources]
    consumer_generation: int = 0
    project_id: str = ""
    user_id: str = ""
    consumer_type: str = ""


class _ProviderRequests:
    """The requests about providers."""

    def __init__(self, http: PlacementHTTP) -> None:
        self._http = http

    def tree(self, root: str) -> list[ProviderRow]:
        """Return the providers of the tree in which a provider is; none if it does not exist."""
        found = self._http.send("GET", path(_PROVIDERS), _Providers, params={"in_tree": root})
        return [each.row() for each in found.resource_providers]

    def named(self, name: str) -> ProviderRow | None:
        """Return the provider with this name."""
        found = self._http.send("GET", path(_PROVIDERS), _Providers, params={"name": name})
        return next((each.row() for each in found.resource_providers), None)

    def create(self, uuid: str, name: str, parent: str | None) -> int:
        """Create a provider; return its generation."""
        body = {"uuid": uuid, "name": name, "parent_provider_uuid": parent}
        return self._http.send("POST", path(_PROVIDERS), _Provider, json=body).generation

    def rename(self, uuid: str, name: str, parent: str | None) -> int:
        """Give a provider its name and its parent; return its generation."""
        body = {"name": name, "parent_provider_uuid": parent}
        return self._of_provider("PUT", _Provider, uuid, json=body).generation

    def delete(self, uuid: str) -> None:
        """Delete a provider."""
        self._of_provider("DELETE", type(None), uuid)

    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        """Return generation and inventories."""
        found = self._of_provider("GET", _Inventories, uuid, "inventories")
        return found.resource_provider_generation, found.inventories

    def put_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        """Replace all inventories; return the new generation."""
        return self._replace(uuid, generation, "inventories", msgspec.to_builtins(dict(inventories)))

    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return generation and traits."""
        found = self._of_provider("GET", _Traits, uuid, "traits")
        return found.resource_provider_generation, found.traits

    def put_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> int:
        """Replace all traits; return the new generation."""
        return self._replace(uuid, generation, "traits", sorted(traits))

    def aggregates(self, uuid: str) -> tuple[int, frozenset[str]]:
        """Return generation and aggregates."""
        found = self._of_provider("GET", _Aggregates, uuid, "aggregates")
        return found.resource_provider_generation, found.aggregates

    def put_aggregates(self, uuid: str, generation: int, aggregates: Iterable[str]) -> int:
        """Replace all aggregates; return the new generation."""
        return self._replace(uuid, generation, "aggregates", sorted(aggregates))

    def ensure_class(self, name: str) -> None:
        """Create a custom resource class unless it exists."""
        self._http.send("PUT", path("resource_classes", name), type(None))

    def ensure_trait(self, name: str) -> None:
        """Create a custom trait unless it exists."""
        self._http.send("PUT", path("traits", name), type(None))

    def _replace(self, uuid: str, generation: int, what: str, content: object) -> int:
        body = {"resource_provider_generation": generation, what: content}
        return self._of_provider("PUT", _Generation, uuid, what, json=body).resource_provider_generation

    def _of_provider(self, method: str, kind: type[T], uuid: str, *more: str, **options: Any) -> T:
        where = path(_PROVIDERS, uuid, *more)
        return self._http.send(method, where, kind, meanings=OF_A_PROVIDER, **options)


class PlacementClient(_ProviderRequests):
    """All requests to Placement, as `api.PlacementApi` has them. Any thread.

    Each may be sent once more after a lost answer (`[placement] connect_retries`). Generations keep the
    second one from doing anything; a second `create` raises DuplicateProvider, a second `delete`
    ProviderNotFound.
    """

    def check_version(self) -> None:
        """Raise PlacementRefused if this Placement does not know the requests, PlacementUnavailable."""
        options = {"microversion": None, "authenticated": False}
        found = self._http.send("GET", "/", _Versions, meanings=OF_THE_ROOT, **options)
        offered = [(each.min_version, each.max_version) for each in found.versions]
        if not any(_numbers(low) <= _numbers(MICROVERSION) <= _numbers(high) for low, high in offered):
            known = ", ".join(f"{low} to {high}" for low, high in offered) or "none"
            raise PlacementRefused(
                f"this Placement knows the microversions {known}, and {MICROVERSION} is needed: upgrade it "
                "to that of OpenStack Yoga or later"
            )

    def allocations_of(self, provider: str) -> list[Allocation]:
        """Return what consumers hold of a provider."""
        found = self._of_provider("GET", _AllocationsOfProvider, provider, "allocations")
        return [Allocation(consumer, each.resources) for consumer, each in found.allocations.items()]

    def consumer_allocations(self, consumer: str) -> ConsumerAllocations | None:
        """Return all that a consumer holds, None if that is nothing."""
        found = self._http.send("GET", path("allocations", consumer), _AllocationsOfConsumer)
        if not found.allocations:
            return None
        return ConsumerAllocations(
            consumer,
            found.consumer_generation,
            found.project_id,
            found.user_id,
            found.consumer_type,
            {provider: each.resources for provider, each in found.allocations.items()},
        )

    def put_allocations(self, allocations: ConsumerAllocations) -> None:
        """Replace all that a consumer holds, which may be nothing."""
        body: dict[str, Any] = {
            "allocations": {
                provider: {"resources": dict(resources)}
                for provider, resources in allocations.providers.items()
            },
            "consumer_generation": allocations.generation,
            "project_id": allocations.project_id,
            "user_id": allocations.user_id,
        }
        options: dict[str, Any] = {"microversion": _WITHOUT_CONSUMER_TYPES}
        if allocations.consumer_type != _NO_TYPE:
            body["consumer_type"] = allocations.consumer_type
            options = {}
        where = path("allocations", allocations.consumer)
        self._http.send("PUT", where, type(None), json=body, **options)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) if each.isdecimal() else 0 for each in version.split("."))
