# SPDX-License-Identifier: Apache-2.0
"""A node's providers over time: what is desired changes, requests fail, senders are killed, others interfere.

All by chance. After it, one sync without faults must bring exactly what is desired.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from uuid import UUID

from msgspec.structs import replace

from tests.fake_placement import FakePlacement, Killed, NoFaults, SeededFaults, Stored
from tracker_worker.placement.contents import same_inventories
from tracker_worker.placement.errors import DuplicateProvider, PlacementError
from tracker_worker.placement.provider import child_uuid
from tracker_worker.placement.records import Inventory, KnownProvider, Provider
from tracker_worker.placement.sync import Sync, Synced, SyncInterrupted, in_flight

NODES = (
    ("00000000-0000-0000-0000-00000000000a", "node"),
    ("00000000-0000-0000-0000-00000000000a", "node.example"),
    ("00000000-0000-0000-0000-00000000000b", "node"),
)
CHILDREN = ("node_pf0", "node_pf1", "node_numa0", "node_vgpu")
CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GOLD", "CUSTOM_NIC")
TRAITS = ("COMPUTE_NODE", "COMPUTE_STATUS_DISABLED", "CUSTOM_RAID")
TRAITS_OF_OTHERS = ("CUSTOM_OPERATOR", "HW_CPU_X86_AVX")
AGGREGATES = tuple(str(UUID(int=number)) for number in range(2))

Providers = tuple[Provider, ...]
KnownProviders = tuple[KnownProvider, ...]


class Diverged(AssertionError):
    """Placement does not have what it shall have."""


def expect(holds: object, what: object) -> None:
    if not holds:
        raise Diverged(str(what))


class ProviderWorld:
    """Placement, the sync of one node, what its worker has stored, and everybody else."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.placement = FakePlacement()
        self.sync = Sync(self.placement)
        self.desired: Providers = ()
        self.stored: list[tuple[KnownProviders, dict[str, int]]] = [((), {})]
        self.was_restored = False
        self.is_alone = chance.random() < 0.3
        self.may_restore = not self.is_alone and chance.random() < 0.5
        self._traits_of_others: dict[str, tuple[Stored, set[str]]] = {}
        self.providers_of_others: set[str] = set()
        self.others_made = 0
        for name in CLASSES[2:] if chance.random() < 0.5 else ():
            self.placement.ensure_class(name)

    @property
    def known(self) -> KnownProviders:
        return self.stored[-1][0]

    def store(self, known: KnownProviders) -> None:
        """What a worker's transaction does."""
        self.stored.append((known, dict(self.placement.creations)))

    def run(self, steps: int) -> None:
        """Let things happen, then check what is promised."""
        for _ in range(steps):
            self.chance.choice((self.change, self.sync_with_faults, self.sync_with_faults, self.others))()
            if self.may_restore and self.chance.random() < 0.2:
                self.restore()
            self.check_traits_of_others()
            if self.is_alone:
                expect(not any(each.foreign for each in self.known), f"nobody else changed {self.known}")
        if not self.desired and self.chance.random() < 0.8:
            self.change()
        self.converge()

    # What is desired.

    def change(self) -> None:
        """Another report, or the node is removed, or was reinstalled."""
        if self.chance.random() < 0.1:
            self.desired = ()
            return
        before = {each.name: each for each in self.desired}
        nodes = NODES[:2] if self.may_restore else NODES
        uuid, name = self.chance.choice(nodes) if not before or self.chance.random() < 0.1 else self._node()
        providers = [self._drawn(uuid, name, None, before)]
        for child in CHILDREN:
            if self.chance.random() < 0.4:
                parent = self.chance.choice(providers).uuid
                providers.append(self._drawn(child_uuid(uuid, child), child, parent, before))
        self.desired = tuple(providers)

    def _node(self) -> tuple[str, str]:
        return self.desired[0].uuid, self.desired[0].name

    def _drawn(self, uuid: str, name: str, parent: str | None, before: dict[str, Provider]) -> Provider:
        if name in before and self.chance.random() < 0.4:
            return replace(before[name], uuid=uuid, parent=parent)
        classes = [each for each in CLASSES if self.chance.random() < 0.5]
        aggregates = self.chance.choice(
            (None, None, frozenset(self.chance.sample(AGGREGATES, 1)), frozenset())
        )
        traits = frozenset(each for each in TRAITS if self.chance.random() < 0.5)
        return Provider(uuid, name, parent, {each: self._inventory() for each in classes}, traits, aggregates)

    def _inventory(self) -> Inventory:
        total = self.chance.randint(1, 4)
        return Inventory(
            total, self.chance.randint(0, total - 1), allocation_ratio=self.chance.choice((1.0, 1.5))
        )

    # The worker.

    def sync_with_faults(self) -> None:
        """A worker syncs, and requests, or the worker, may fail."""
        self.placement.faults = SeededFaults(self.chance, self.chance.choice((0.0, 0.05, 0.3)), self.others)
        before = self.known
        self.store(in_flight(self.desired, before))
        run = self.chance.choice((self.sync.push, self.sync.push, self.sync.refresh))
        try:
            self.store(run(self.desired, before).known)
        except SyncInterrupted as interrupted:
            self.store(interrupted.known)
        except Killed:
            self.sync = Sync(self.placement)
            self.placement.faults = NoFaults()
            if not self._is_of_now(*self.stored[-1]):
                self._move_on()
                self._finish(self.sync.refresh)
        finally:
            self.placement.faults = NoFaults()

    def _is_of_now(self, known: KnownProviders, creations: dict[str, int]) -> bool:
        """Whether no provider was created again since. One that was may have the old generation with other
        contents, some writes later: nothing can tell that before the generation moves on.
        """
        return all(creations.get(each.uuid) == self.placement.creations.get(each.uuid) for each in known)

    def _move_on(self) -> None:
        """The generations of all providers move on beyond those that were known, as with allocations."""
        known = max((each.generation for each in self.known), default=0)
        with self.placement.others():
            for uuid, provider in self.placement.providers.items():
                while provider.generation <= known:
                    self.placement.put_inventories(uuid, provider.generation, provider.inventories)

    def _finish(self, run: Callable[[Providers, KnownProviders], Synced]) -> bool:
        """Sync without faults. Whether it came to an end: a name may be that of a node that cannot go."""
        try:
            self.store(run(self.desired, self.known).known)
        except SyncInterrupted as interrupted:
            expect(isinstance(interrupted.cause, DuplicateProvider), interrupted.cause)
            self.store(interrupted.known)
            return False
        return True

    def restore(self) -> None:
        """The database loses its last commits. (Not those of a node that got another uuid: nothing knows of
        the old one then, which may have its name.)
        """
        known, creations = self.chance.choice(self.stored)
        if self._is_of_now(known, creations):
            self.stored.append((known, creations))
            self.was_restored = True

    # Everybody else.

    def others(self) -> None:
        """Somebody else does something that Placement allows."""
        if self.is_alone:
            return
        with self.placement.others():
            action = self.chance.choice(
                (self._trait, self._trait, self._inventories, self._allocate, self._allocate, self._release,
                 self._child, self._delete, self._rename)
            )  # fmt: skip
            if uuids := sorted(self.placement.providers):
                with suppress(PlacementError):
                    action(self.chance.choice(uuids))

    def _trait(self, uuid: str) -> None:
        """An operator's trait is added or taken away, or one of ours is."""
        generation, traits = self.placement.traits(uuid)
        name = self.chance.choice((*TRAITS_OF_OTHERS, *sorted(traits)))
        if name in TRAITS_OF_OTHERS:
            if name.startswith("CUSTOM_"):
                self.placement.ensure_trait(name)
            self.placement.put_traits(uuid, generation, traits ^ {name})
            theirs = set(traits ^ {name}) & set(TRAITS_OF_OTHERS)
            self._traits_of_others[uuid] = self.placement.providers[uuid], theirs
        else:
            self.placement.put_traits(uuid, generation, traits - {name})

    def _inventories(self, uuid: str) -> None:
        generation, inventories = self.placement.inventories(uuid)
        self.placement.put_inventories(uuid, generation, inventories | {"VCPU": self._inventory()})

    def _allocate(self, uuid: str) -> None:
        _, inventories = self.placement.inventories(uuid)
        if inventories:
            name = self.chance.choice(sorted(inventories))
            self.placement.allocate(f"server-{self.chance.randint(0, 3)}", {uuid: {name: 1}})

    def _release(self, _uuid: str) -> None:
        for consumer in sorted(self.placement.consumers):
            if self.chance.random() < 0.5:
                self.placement.delete_allocations(consumer)
            else:
                self.placement.allocate(consumer, {})

    def _child(self, uuid: str) -> None:
        """An agent, or a compute manager before us, creates a provider below one of ours."""
        self.others_made += 1
        name = self.chance.choice((f"agent-{self.others_made}", *CHILDREN))
        made = str(UUID(int=0xC000 + self.others_made))
        self.placement.create(made, name, uuid)
        self.providers_of_others.add(made)

    def _delete(self, uuid: str) -> None:
        self.placement.delete(uuid)

    def _rename(self, uuid: str) -> None:
        """(Not where commits are lost: nobody knows then that a provider of another name was ours.)"""
        if self.may_restore:
            return
        stored = self.placement.providers[uuid]
        self.placement.rename(uuid, f"renamed {stored.name}", stored.parent)

    # What is promised.

    def traits_of_others(self, uuid: str) -> set[str]:
        """What others have added to a provider since it was created last."""
        provider, traits = self._traits_of_others.get(uuid, (None, set[str]()))
        return traits if provider is self.placement.providers.get(uuid) else set()

    def check_traits_of_others(self) -> None:
        for uuid, provider in self.placement.providers.items():
            expect(self.traits_of_others(uuid) <= provider.traits, f"{provider} has lost an operator's trait")

    def converge(self) -> None:
        """Without faults one refresh brings what is desired, as far as allocations and others' children let
        it; all of it when these are gone. If nobody else is there, a push does.
        """
        if self.is_alone:
            expect(self._finish(self.sync.push), "a name is not ours")
            self.check()
        if self._finish(self.sync.refresh):
            self.check()
        with self.placement.others():
            self._release_all()
        expect(self._finish(self.sync.refresh), "a name is not ours")
        self.check()
        expect(not any(each.undeleted or each.kept for each in self.known), self.known)

    def _release_all(self) -> None:
        while self.placement.consumers:
            self._release("")
        theirs = self.providers_of_others - {each.uuid for each in self.known}
        for _ in range(len(theirs)):
            for uuid in sorted(theirs & self.placement.providers.keys()):
                if not any(each.parent == uuid for each in self.placement.providers.values()):
                    self.placement.delete(uuid)

    def check(self) -> None:
        """Placement has exactly what is desired, what is stored says so, and a second sync sends nothing."""
        by_name = {each.name: uuid for uuid, each in self.placement.providers.items()}
        uuids = {each.uuid: by_name.get(each.name) for each in self.desired}
        known = {each.uuid: each for each in self.known}
        for provider in self.desired:
            uuid = uuids[provider.uuid]
            expect(uuid in known, f"{provider} does not exist, or is not known")
            parent = None if provider.parent is None else uuids[provider.parent]
            self._check_provider(provider, known[str(uuid)], parent)
        for each in self.known:
            self._check_known(each)
        self._check_others(set(uuids.values()), known)
        self._check_silence()

    def _check_provider(self, provider: Provider, known: KnownProvider, parent: str | None) -> None:
        stored = self.placement.providers[known.uuid]
        kept = {
            name: replace(stored.inventories[name], reserved=stored.inventories[name].total)
            for name in self.placement.allocated(known.uuid) - provider.inventories.keys()
        }
        expect(same_inventories(dict(provider.inventories) | kept, stored.inventories), (provider, stored))
        expect(known.kept == kept.keys(), (known, kept))
        expect(stored.parent == parent, (provider, stored))
        expect(provider.aggregates in (None, stored.aggregates), (provider, stored))
        wanted = provider.traits | self.traits_of_others(known.uuid)
        expect(wanted <= stored.traits, (wanted, stored))
        if not self.was_restored and known.uuid not in self.providers_of_others:
            expect(wanted == stored.traits, (wanted, stored))

    def _check_known(self, known: KnownProvider) -> None:
        stored = self.placement.providers[known.uuid]
        expect(
            (known.name, known.parent, known.generation, known.inventories, known.traits)
            == (stored.name, stored.parent, stored.generation, stored.inventories, stored.traits),
            (known, stored),
        )
        expect(known.aggregates in (None, stored.aggregates), (known, stored))
        expect(not known.in_doubt, known)

    def _check_others(self, desired: set[str | None], known: dict[str, KnownProvider]) -> None:
        """Nothing of ours is left that may go, and nothing of others' was taken."""
        for uuid in self.placement.providers.keys() - desired:
            if uuid in known:
                in_use = self.placement.allocated(uuid) or self._children(uuid)
                expect(known[uuid].undeleted and in_use, f"{known[uuid]} is left over")
            else:
                expect(
                    uuid in self.providers_of_others or self._may_be_forgotten(uuid),
                    f"{self.placement.providers[uuid]} is left over",
                )

    def _may_be_forgotten(self, uuid: str) -> bool:
        """Whether only the lost commits knew a provider: that of a removed node, or a renamed one."""
        root = self.placement.root_of(uuid)
        is_ours = uuid == child_uuid(root, self.placement.providers[uuid].name)
        return self.was_restored and not (is_ours and self.desired and root == self.desired[0].uuid)

    def _children(self, uuid: str) -> list[str]:
        return [child for child, each in self.placement.providers.items() if each.parent == uuid]

    def _check_silence(self) -> None:
        self.placement.sent()
        expect(
            self.sync.push(self.desired, self.known).known == self.known,
            "a second push changes what is known",
        )
        expect(in_flight(self.desired, self.known) == self.known, "nothing is in flight")
        expect(not self.placement.requests, f"a second push sends {self.placement.requests}")
