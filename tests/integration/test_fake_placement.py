# SPDX-License-Identifier: Apache-2.0
"""The Placement in memory answers as a real one does: with the same results, generations and errors."""

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from tests.fake_placement import FakePlacement
from tests.integration.placement_clients import allocate, client_of
from tests.servers.placement import Placement
from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementError,
    PlacementRefused,
    ProviderInUse,
    ProviderNotFound,
)
from tracker_worker.placement.records import Inventory

SEEDS, REQUESTS = 2, 80
CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_{}")
TRAITS = ("COMPUTE_NODE", "HW_CPU_X86_AVX", "CUSTOM_{}")
ERRORS = (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementRefused,
    ProviderInUse,
    ProviderNotFound,
)
Ask = Callable[[PlacementApi], Any]


class Both:
    """The same requests to both, drawn by lot; what they answer is compared."""

    def __init__(self, server: Placement, chance: Random) -> None:
        self.chance = chance
        self.server = server
        self.real = client_of(server.url)
        self.fake = FakePlacement()
        self.uuids = [self._new_uuid() for _ in range(5)]
        self.names = [f"provider-{self._new_uuid()}" for _ in range(5)]
        suffix = self._new_uuid().replace("-", "_").upper()
        self.classes = [name.format(suffix) for name in CLASSES]
        self.traits = [name.format(suffix) for name in TRAITS]
        self.consumers: list[str] = []
        self.answered: set[str] = set()

    def request(self) -> None:
        draw = self.chance.choice(
            (self._create, self._create, self._rename, self._delete, self._put_inventories,
             self._put_inventories, self._put_traits, self._put_aggregates, self._ensure, self._allocate,
             self._allocate, self._release)
        )  # fmt: skip
        draw()
        uuid = self._uuid()
        for what, ask in (
            ("tree", lambda api: sorted(api.tree(uuid), key=lambda row: row.uuid)),
            ("inventories", lambda api: api.inventories(uuid)),
            ("traits", lambda api: api.traits(uuid)),
            ("aggregates", lambda api: api.aggregates(uuid)),
            ("allocations_of", lambda api: sorted(api.allocations_of(uuid), key=lambda each: each.consumer)),
        ):
            self.compare(what, ask)

    def compare(self, what: str, ask: Ask) -> None:
        answers = [_answer(ask, api) for api in (self.fake, self.real)]
        assert answers[0] == answers[1], what
        self.answered.add(answers[0].__name__ if isinstance(answers[0], type) else what)

    def _new_uuid(self) -> str:
        return str(UUID(int=self.chance.getrandbits(128)))

    def _uuid(self) -> str:
        return self.chance.choice(self.uuids)

    def _generation(self, uuid: str) -> int:
        stored = self.fake.providers.get(uuid)
        right = 0 if stored is None else stored.generation
        return right if self.chance.random() < 0.85 else right + 1

    def _some(self, names: list[str]) -> list[str]:
        return [name for name in names if self.chance.random() < 0.5]

    def _create(self) -> None:
        uuid, name = self._uuid(), self.chance.choice(self.names)
        parent = self.chance.choice((None, self._uuid()))
        if parent != uuid:
            self.compare("create", lambda api: api.create(uuid, name, parent))

    def _rename(self) -> None:
        uuid, name = self._uuid(), self.chance.choice(self.names)
        parent = self.chance.choice((None, self._uuid()))
        self.compare("rename", lambda api: api.rename(uuid, name, parent))

    def _delete(self) -> None:
        uuid = self._uuid()
        self.compare("delete", lambda api: api.delete(uuid))

    def _put_inventories(self) -> None:
        uuid = self._uuid()
        generation = self._generation(uuid)
        wanted = {
            name: Inventory(self.chance.randint(1, 3), self.chance.randint(0, 1))
            for name in self._some(self.classes)
        }
        self.compare("put_inventories", lambda api: api.put_inventories(uuid, generation, wanted))

    def _put_traits(self) -> None:
        uuid = self._uuid()
        generation, wanted = self._generation(uuid), self._some(self.traits)
        self.compare("put_traits", lambda api: api.put_traits(uuid, generation, wanted))

    def _put_aggregates(self) -> None:
        uuid = self._uuid()
        generation, wanted = self._generation(uuid), self._some(self.uuids)
        self.compare("put_aggregates", lambda api: api.put_aggregates(uuid, generation, wanted))

    def _ensure(self) -> None:
        if self.chance.random() < 0.5:
            self.compare("ensure_class", lambda api: api.ensure_class(self.classes[-1]))
        else:
            self.compare("ensure_trait", lambda api: api.ensure_trait(self.traits[-1]))

    def _allocate(self) -> None:
        """One of a class that has room, for a new consumer."""
        rooms = [
            (uuid, name)
            for uuid, each in self.fake.providers.items()
            for name, inventory in each.inventories.items()
            if inventory.total - inventory.reserved - self._held(uuid, name) > 0
        ]
        if rooms:
            uuid, name = self.chance.choice(sorted(rooms))
            consumer = self._new_uuid()
            self.consumers.append(consumer)
            self.fake.allocate(consumer, {uuid: {name: 1}})
            allocate(self.server, consumer, {uuid: {name: 1}})

    def _held(self, uuid: str, name: str) -> int:
        return sum(each.providers.get(uuid, {}).get(name, 0) for each in self.fake.consumers.values())

    def _release(self) -> None:
        if self.consumers:
            consumer = self.consumers.pop(self.chance.randrange(len(self.consumers)))
            self.compare("put_allocations", lambda api: _released(api, consumer))


def _released(api: PlacementApi, consumer: str) -> tuple[int, object, object]:
    held = api.consumer_allocations(consumer)
    assert held is not None
    api.put_allocations(replace(held, providers={}))
    return held.generation, held.providers, api.consumer_allocations(consumer)


def _answer(ask: Ask, api: PlacementApi) -> Any:
    try:
        return ask(api)
    except PlacementError as error:
        return type(error)


def test_fake_answers_as_placement_does(placement: Placement) -> None:
    """Each request, and each error, is among them."""
    answered: set[str] = set()
    for seed in range(SEEDS):
        both = Both(placement, Random(seed))
        for _ in range(REQUESTS):
            both.request()
        answered |= both.answered
    assert answered > {each.__name__ for each in ERRORS}
