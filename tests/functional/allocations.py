# SPDX-License-Identifier: Apache-2.0
"""A Placement in memory that has providers and allocations, with the generations of consumers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from tracker_worker.placement.api import ProviderRow
from tracker_worker.placement.errors import GenerationConflict, PlacementError, ProviderNotFound
from tracker_worker.placement.records import Allocation, ConsumerAllocations, Inventory


class Allocations:
    """What the audit asks of Placement; any other request fails the test.

    `fail` is raised by every request while it is set; `before_request` is called with the name of each.
    """

    def __init__(self) -> None:
        self.providers: dict[str, ProviderRow] = {}
        self.has_disk: set[str] = set()
        self.consumers: dict[str, ConsumerAllocations] = {}
        self.fail: PlacementError | None = None
        self.before_request: Callable[[str], None] = lambda _: None
        self.requests: list[str] = []

    def add(self, uuid: str, name: str, parent: str | None = None) -> None:
        """Add a provider, which has disk."""
        self.providers[uuid] = ProviderRow(uuid, name, 0, parent)
        self.has_disk.add(uuid)

    def allocate(self, consumer: str, provider: str, resources: Mapping[str, int]) -> None:
        """Allocate for a consumer besides what it holds."""
        empty = ConsumerAllocations(consumer, 0, "project", "user", "INSTANCE", {})
        before = self.consumers.get(consumer, empty)
        providers = {**before.providers, provider: dict(resources)}
        self.consumers[consumer] = replace(before, generation=before.generation + 1, providers=providers)

    def held(self, consumer: str) -> Mapping[str, Mapping[str, int]]:
        """What a consumer holds, by provider."""
        return self.consumers[consumer].providers if consumer in self.consumers else {}

    def tree(self, root: str) -> list[ProviderRow]:
        self._asked("tree")
        return [row for row in self.providers.values() if root in (row.uuid, row.parent)]

    def named(self, name: str) -> ProviderRow | None:
        self._asked("named")
        return next((row for row in self.providers.values() if row.name == name), None)

    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        self._asked("inventories")
        inventory = {"VCPU": Inventory(8), **({"DISK_GB": Inventory(100)} if uuid in self.has_disk else {})}
        return self.providers[uuid].generation, inventory

    def allocations_of(self, provider: str) -> list[Allocation]:
        self._asked("allocations_of")
        if provider not in self.providers:
            raise ProviderNotFound(provider)
        return [
            Allocation(consumer, each.providers[provider])
            for consumer, each in self.consumers.items()
            if provider in each.providers
        ]

    def consumer_allocations(self, consumer: str) -> ConsumerAllocations | None:
        self._asked("consumer_allocations")
        return self.consumers.get(consumer)

    def put_allocations(self, allocations: ConsumerAllocations) -> None:
        self._asked("put_allocations")
        before = self.consumers.get(allocations.consumer)
        if before is None or before.generation != allocations.generation:
            raise GenerationConflict(allocations.consumer)
        del self.consumers[allocations.consumer]
        if allocations.providers:
            self.consumers[allocations.consumer] = replace(allocations, generation=before.generation + 1)

    def _asked(self, request: str) -> None:
        self.before_request(request)
        self.requests.append(request)
        if self.fail is not None:
            raise self.fail

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the audit has no use for {name}")


def names_of(findings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The kind of each finding of a document, by consumer."""
    return {each["consumer"]: each["finding"] for each in findings}
