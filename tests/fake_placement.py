# SPDX-License-Identifier: Apache-2.0
"""Placement in memory, by its rules of generations, names and use, as read and measured of Placement 16."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from random import Random
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tracker_worker.placement.api import PlacementApi, ProviderRow
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementRefused,
    PlacementUnavailable,
    ProviderInUse,
    ProviderNotFound,
)
from tracker_worker.placement.records import Allocation, ConsumerAllocations, Inventory

P = ParamSpec("P")
R = TypeVar("R")

USER, PROJECT = "user-1", "project-1"


class Killed(BaseException):
    """The process that sent a request is killed. Not an Exception, so that no handler catches it."""


class Faults(Protocol):
    """What happens on the way of a request, and before and after it."""

    def before(self) -> None: ...

    def after(self) -> None: ...


class NoFaults:
    """Every request is answered."""

    def before(self) -> None:
        pass

    def after(self) -> None:
        pass


class SeededFaults:
    """Requests and answers are lost, the sender is killed, and others act between two requests, by chance."""

    def __init__(self, chance: Random, rate: float, others: Callable[[], None]) -> None:
        self._chance = chance
        self._rate = rate
        self._others = others

    def before(self) -> None:
        if self._chance.random() < self._rate:
            self._others()
        self._fail("503: Service Unavailable")

    def after(self) -> None:
        self._fail("no answer in 10 s")

    def _fail(self, text: str) -> None:
        if self._chance.random() < self._rate:
            raise self._chance.choice((PlacementUnavailable(text), Killed()))


class FailingAt:
    """The request of a number, counted from 1, fails before or after it is carried out."""

    def __init__(self, number: int, error: BaseException, carried_out: bool) -> None:
        self._left = number
        self._error = error
        self._carried_out = carried_out

    def before(self) -> None:
        self._left -= 1
        if self._left == 0 and not self._carried_out:
            raise self._error

    def after(self) -> None:
        if self._left == 0 and self._carried_out:
            raise self._error


@dataclass
class Stored:
    """A provider as Placement stores it."""

    name: str
    parent: str | None
    generation: int = 0
    inventories: dict[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()


def request(
    method: Callable[Concatenate["FakePlacement", P], R],
) -> Callable[Concatenate["FakePlacement", P], R]:
    """Make a method a request: it is noted down, and faults happen to it."""

    @wraps(method)
    def sent(placement: "FakePlacement", /, *args: P.args, **kwargs: P.kwargs) -> R:
        if placement.by_others:
            return method(placement, *args, **kwargs)
        placement.requests.append(placement.described(method.__name__, args))
        with placement.others():
            placement.faults.before()
        result = method(placement, *args, **kwargs)
        with placement.others():
            placement.faults.after()
        return result

    return sent


class FakePlacement(PlacementApi):
    """Placement's rules. `requests` are what was asked, but for what others did: in words, by names."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: Faults = NoFaults()
        self.by_others = False
        self.providers: dict[str, Stored] = {}
        self.consumers: dict[str, ConsumerAllocations] = {}
        self.custom_names: set[tuple[str, str]] = set()
        self.unknown_names: set[str] = set()
        self.creations: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    @contextmanager
    def others(self) -> Iterator[None]:
        """Within it somebody else sends the requests: without faults, and they are not noted down."""
        before, self.by_others = self.by_others, True
        try:
            yield
        finally:
            self.by_others = before

    def described(self, method: str, args: tuple[object, ...]) -> str:
        """A request in words: its name, the names of its providers, its generation."""
        if method == "create":
            self._names.setdefault(str(args[0]), str(args[1]))
            args = args[1:]
        words = [self._names.get(each, each) if isinstance(each, str) else each for each in args]
        return " ".join(map(str, (method, *(each for each in words if isinstance(each, (str, int))))))

    def sent(self) -> list[str]:
        """The requests since the last question."""
        requests, self.requests = self.requests, []
        return requests

    # Providers.

    @request
    def tree(self, root: str) -> list[ProviderRow]:
        if root not in self.providers:
            return []
        top = self.root_of(root)
        return [self._row(uuid) for uuid in self.providers if self.root_of(uuid) == top]

    @request
    def named(self, name: str) -> ProviderRow | None:
        return next((self._row(uuid) for uuid, each in self.providers.items() if each.name == name), None)

    @request
    def create(self, uuid: str, name: str, parent: str | None) -> int:
        if parent is not None and parent not in self.providers:
            raise PlacementRefused(f"400: no parent {parent}")
        if uuid in self.providers or any(each.name == name for each in self.providers.values()):
            raise DuplicateProvider(f"409: {name} or {uuid} exists already")
        self.providers[uuid] = Stored(name, parent)
        self._names[uuid] = name
        self.creations[uuid] += 1
        return 0

    @request
    def rename(self, uuid: str, name: str, parent: str | None) -> int:
        provider = self._provider(uuid)
        if parent is not None and (parent not in self.providers or uuid in self.lineage(parent)):
            raise PlacementRefused(f"400: parent {parent} does not exist, or would be its own")
        if any(each.name == name for other, each in self.providers.items() if other != uuid):
            raise DuplicateProvider(f"409: {name} exists already")
        provider.name, provider.parent = name, parent
        self._names[uuid] = name
        return provider.generation

    @request
    def delete(self, uuid: str) -> None:
        self._provider(uuid)
        if self.allocated(uuid) or any(each.parent == uuid for each in self.providers.values()):
            raise ProviderInUse(f"409: {uuid} has allocations or children")
        del self.providers[uuid]

    # Contents.

    @request
    def inventories(self, uuid: str) -> tuple[int, dict[str, Inventory]]:
        provider = self._provider(uuid)
        return provider.generation, dict(provider.inventories)

    @request
    def put_inventories(self, uuid: str, generation: int, inventories: Mapping[str, Inventory]) -> int:
        provider = self._at(uuid, generation)
        self._check_names("class", inventories)
        for name, each in inventories.items():
            if each.total < 1 or each.reserved > each.total:
                raise PlacementRefused(f"400: invalid inventory of {name}")
        if self.allocated(uuid) - inventories.keys():
            raise InventoryInUse(f"409: inventory of {uuid} is in use")
        provider.inventories = dict(inventories)
        return self._changed(provider)

    @request
    def traits(self, uuid: str) -> tuple[int, frozenset[str]]:
        provider = self._provider(uuid)
        return provider.generation, provider.traits

    @request
    def put_traits(self, uuid: str, generation: int, traits: Iterable[str]) -> int:
        """Without a change the generation stays."""
        provider = self._at(uuid, generation)
        wanted = frozenset(traits)
        self._check_names("trait", wanted)
        if wanted == provider.traits:
            return provider.generation
        provider.traits = wanted
        return self._changed(provider)

    @request
    def aggregates(self, uuid: str) -> tuple[int, frozenset[str]]:
        provider = self._provider(uuid)
        return provider.generation, provider.aggregates

    @request
    def put_aggregates(self, uuid: str, generation: int, aggregates: Iterable[str]) -> int:
        provider = self._at(uuid, generation)
        provider.aggregates = frozenset(aggregates)
        return self._changed(provider)

    @request
    def ensure_class(self, name: str) -> None:
        self._ensure("class", name)

    @request
    def ensure_trait(self, name: str) -> None:
        self._ensure("trait", name)

    # Allocations.

    @request
    def allocations_of(self, provider: str) -> list[Allocation]:
        self._provider(provider)
        return [
            Allocation(consumer, each.providers[provider])
            for consumer, each in self.consumers.items()
            if provider in each.providers
        ]

    @request
    def consumer_allocations(self, consumer: str) -> ConsumerAllocations | None:
        return self.consumers.get(consumer)

    @request
    def put_allocations(self, allocations: ConsumerAllocations) -> None:
        before = self.consumers.get(allocations.consumer)
        if before is None or before.generation != allocations.generation:
            raise GenerationConflict(f"409: consumer generation of {allocations.consumer}")
        self.allocate(allocations.consumer, allocations.providers)

    def allocate(self, consumer: str, held: Mapping[str, Mapping[str, int]]) -> None:
        """Replace what a consumer holds, as the scheduler does. What is not asked for anymore gives its
        provider another generation only if nothing is asked for at all.
        """
        before = self.consumers.pop(consumer, None)
        try:
            for uuid, resources in held.items():
                self._check_room(uuid, resources)
        except PlacementRefused:
            if before is not None:
                self.consumers[consumer] = before
            raise
        if held:
            generation = 1 if before is None else before.generation + 1
            self.consumers[consumer] = ConsumerAllocations(
                consumer,
                generation,
                PROJECT,
                USER,
                "INSTANCE",
                {uuid: dict(each) for uuid, each in held.items()},
            )
        for uuid in held or (() if before is None else before.providers):
            self._changed(self.providers[uuid])

    def delete_allocations(self, consumer: str) -> None:
        """Delete what a consumer holds, by DELETE: the providers' generations stay."""
        del self.consumers[consumer]

    # The state, for tests.

    def lineage(self, uuid: str) -> list[str]:
        """A provider and those above it."""
        parent = self.providers[uuid].parent
        return [uuid, *([] if parent is None else self.lineage(parent))]

    def root_of(self, uuid: str) -> str:
        return self.lineage(uuid)[-1]

    def allocated(self, uuid: str) -> frozenset[str]:
        """The resource classes that are held of a provider."""
        held = (each.providers.get(uuid, {}) for each in self.consumers.values())
        return frozenset(name for resources in held for name in resources)

    def _row(self, uuid: str) -> ProviderRow:
        each = self.providers[uuid]
        return ProviderRow(uuid, each.name, each.generation, each.parent)

    def _provider(self, uuid: str) -> Stored:
        if uuid not in self.providers:
            raise ProviderNotFound(f"404: no provider {uuid}")
        return self.providers[uuid]

    def _at(self, uuid: str, generation: int) -> Stored:
        provider = self._provider(uuid)
        if provider.generation != generation:
            raise GenerationConflict(f"409: generation of {uuid} is not {generation}")
        return provider

    def _changed(self, provider: Stored) -> int:
        provider.generation += 1
        return provider.generation

    def _check_names(self, kind: str, names: Iterable[str]) -> None:
        for name in names:
            if name in self.unknown_names:
                raise PlacementRefused(f"400: no {kind} {name}")
            if name.startswith("CUSTOM_") and (kind, name) not in self.custom_names:
                raise PlacementRefused(f"400: no {kind} {name}")

    def _ensure(self, kind: str, name: str) -> None:
        if not name.startswith("CUSTOM_"):
            raise PlacementRefused(f"400: {name} is not a custom name")
        self.custom_names.add((kind, name))

    def _check_room(self, uuid: str, resources: Mapping[str, int]) -> None:
        inventories = self._provider(uuid).inventories
        for name, amount in resources.items():
            if name not in inventories:
                raise PlacementRefused(f"409: no inventory of {name}")
            held = sum(each.providers.get(uuid, {}).get(name, 0) for each in self.consumers.values())
            inventory = inventories[name]
            if held + amount > (inventory.total - inventory.reserved) * inventory.allocation_ratio:
                raise PlacementRefused(f"409: no room for {name}")
