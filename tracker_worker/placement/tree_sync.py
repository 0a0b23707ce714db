# SPDX-License-Identifier: Apache-2.0
"""One sync of one node: creates, changes and deletes its providers, and knows after each request what is."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from tracker_worker.placement.api import PlacementApi, ProviderRow
from tracker_worker.placement.contents import (
    TRIES,
    ProviderContents,
    about_to_write,
    is_as_desired,
    is_as_written,
)
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    PlacementError,
    PlacementRefused,
    ProviderInUse,
    ProviderNotFound,
)
from tracker_worker.placement.known_tree import deepest_first, matched, root_of
from tracker_worker.placement.provider import child_uuid
from tracker_worker.placement.records import UNREAD, KnownProvider, Provider


class TreeSync:
    """The sync of a node's providers; used once, by one thread. `known` is right after every request.

    A desired provider has the uuid that Placement knows, unless a child of its name was there before: that
    one is taken over with its own uuid.
    """

    def __init__(
        self,
        api: PlacementApi,
        contents: ProviderContents,
        desired: tuple[Provider, ...],
        known: tuple[KnownProvider, ...],
    ) -> None:
        self._api = api
        self._contents = contents
        self._desired = {each.uuid: each for each in desired}
        self._known = {each.uuid: each for each in known}
        self._uuids = {each.uuid: each.uuid for each in desired}
        self._uuids |= {uuid: each.uuid for uuid, each in matched(desired, known).items()}
        self._root = desired[0].uuid if desired else None
        self._rows: dict[str, ProviderRow] = {}
        self._placed: set[str] = set()

    def known(self) -> tuple[KnownProvider, ...]:
        """Return the providers as they are known now: the desired ones first."""
        ours = [self._known[uuid] for uuid in self._uuids.values() if uuid in self._known]
        return (*ours, *self._undesired())

    def push(self) -> None:
        """Delete what is left of another tree, write the desired providers, delete those that are not.

        A provider that is refused keeps only those below it from their state; its error is raised at the end.
        """
        self._delete(self._of_other_trees())
        refused = self._settle_all()
        self._delete(self._undesired())
        if refused is not None:
            raise refused

    def refresh(self) -> None:
        """Compare with Placement, then push."""
        read = [each for each in self._known.values() if each.generation != UNREAD]
        for uuid in dict.fromkeys(
            (*([] if self._root is None else [self._root]), *(each.uuid for each in read))
        ):
            if uuid not in self._rows:
                self._tree(uuid)
        ours = set(self._uuids.values())
        found = [each for each in self._known.values() if each.uuid in ours & self._rows.keys()]
        for known in {each.uuid: each for each in (*read, *found)}.values():
            self._compare(known, self._rows.get(known.uuid))
        self.push()

    # What is known.

    def _store(self, known: KnownProvider) -> KnownProvider:
        self._known[known.uuid] = known
        return known

    def _undesired(self) -> list[KnownProvider]:
        ours = set(self._uuids.values())
        return [each for uuid, each in self._known.items() if uuid not in ours]

    def _forget(self, uuid: str) -> None:
        """Take a provider for deleted by others, and its children for not read: it could not be deleted
        with them.
        """
        known = self._known.pop(uuid, None)
        undesired = self._undesired()
        for child in [each for each in self._known.values() if each.parent == uuid]:
            self._forget(child.uuid)
            if child in undesired:
                self._store(replace(child, generation=UNREAD, undeleted=False))
        for desired, ours in self._uuids.items():
            if ours == uuid and known is not None:
                self._uuids[desired] = desired
                self._store(replace(known, uuid=desired, generation=UNREAD))

    def _tree(self, uuid: str) -> list[ProviderRow]:
        """Read a tree. What an earlier sync created there and did not live to store is known from now on."""
        rows = self._api.tree(uuid)
        root = next((row.uuid for row in rows if row.parent is None), uuid)
        self._rows |= {row.uuid: row for row in rows}
        for row in rows:
            if row.uuid not in self._known and row.uuid == child_uuid(root, row.name):
                self._store(KnownProvider(row.uuid, row.name, UNREAD, row.parent))
        return rows

    # What is desired.

    def _settle_all(self) -> PlacementError | None:
        """Bring all providers to their desired state; return why the first of them could not be."""
        refused: dict[str, PlacementError] = {}
        for provider in self._desired.values():
            if provider.parent in refused:
                refused[provider.uuid] = refused[provider.parent]
                continue
            try:
                self._settle(provider)
            except (PlacementRefused, DuplicateProvider) as error:
                if provider.parent is None:
                    raise
                refused[provider.uuid] = error
        return next(iter(refused.values()), None)

    def _settle(self, provider: Provider) -> None:
        """Bring one provider to its desired state, while others may change or delete it."""
        failed: PlacementError
        for _ in range(TRIES):
            try:
                return self._write(provider)
            except GenerationConflict as conflict:
                failed = conflict
            except ProviderNotFound as missing:
                failed = missing
                self._forget(self._uuids[provider.uuid])
            except PlacementRefused as refused:
                failed = refused
                if not self._restored_parent(provider):
                    raise
        raise failed

    def _write(self, provider: Provider) -> None:
        """Write what differs. What is stored is in doubt until all is written: any of it may fail."""
        parent = self._parent_of(provider)
        known = self._known.get(self._uuids[provider.uuid])
        if known is None or known.generation == UNREAD:
            known = self._create(provider, self._store(about_to_write(provider, known, parent)))
        elif known.in_doubt:
            known = self._store(self._contents.read(self._named(known)))
        known = self._store(about_to_write(provider, known, parent))
        known = self._store(self._place(provider, known))
        self._placed.add(known.uuid)
        known = self._store(self._contents.put_inventories(provider, known))
        known = self._store(self._contents.put_traits(provider, known))
        known = self._store(self._contents.put_aggregates(provider, known))
        self._store(replace(known, in_doubt=False))

    def _named(self, known: KnownProvider) -> KnownProvider:
        """Read name and parent of a provider: a request that changes them leaves no generation behind. After
        one of this sync they are known.
        """
        if known.uuid in self._placed:
            return known
        if known.uuid not in self._rows:
            self._tree(known.uuid)
        row = self._rows.get(known.uuid)
        if row is None:
            raise ProviderNotFound(f"Provider {known.name} ({known.uuid}) does not exist")
        return replace(known, name=row.name, parent=row.parent)

    def _parent_of(self, provider: Provider) -> str | None:
        return None if provider.parent is None else self._uuids[provider.parent]

    def _create(self, provider: Provider, known: KnownProvider) -> KnownProvider:
        """Create a provider, or take over the one that exists already."""
        parent = self._parent_of(provider)
        try:
            generation = self._api.create(provider.uuid, provider.name, parent)
        except DuplicateProvider as duplicate:
            return self._take_over(provider, known, self._existing(provider, duplicate))
        return self._store(
            KnownProvider(
                provider.uuid,
                provider.name,
                generation,
                parent,
                own_traits=known.own_traits,
                aggregates=frozenset(),
                foreign=known.foreign,
                in_doubt=True,
            )
        )

    def _existing(self, provider: Provider, duplicate: DuplicateProvider) -> ProviderRow:
        """Return the provider of the node's tree that has this uuid or name. Raises DuplicateProvider if
        there is none: the name is another's.
        """
        rows = {row.uuid: row for row in self._tree(next(iter(self._desired)))}
        if provider.uuid in rows:
            return rows[provider.uuid]
        taken = set(self._uuids.values())
        for row in rows.values():
            if row.name == provider.name and row.uuid not in taken:
                return row
        raise self._named_by_owner(provider, duplicate) from duplicate

    def _named_by_owner(self, provider: Provider, duplicate: DuplicateProvider) -> DuplicateProvider:
        """Return the error of a provider whose name is another's, with the uuid of that one."""
        owner = self._api.named(provider.name)
        if owner is None:
            return duplicate
        return DuplicateProvider(
            f"Provider {provider.uuid} is not named {provider.name}: provider {owner.uuid} has its name"
        )

    def _take_over(self, provider: Provider, known: KnownProvider, row: ProviderRow) -> KnownProvider:
        found = self._contents.read(replace(known, uuid=row.uuid, name=row.name, parent=row.parent))
        self._known.pop(provider.uuid, None)
        self._uuids[provider.uuid] = row.uuid
        for child in [each for each in self._known.values() if each.parent == provider.uuid]:
            self._store(replace(child, parent=row.uuid))
        return self._store(found)

    def _place(self, provider: Provider, known: KnownProvider) -> KnownProvider:
        """Give a provider its name and its parent. Its generation stays."""
        parent = self._parent_of(provider)
        if (known.name, known.parent) != (provider.name, parent):
            try:
                self._api.rename(known.uuid, provider.name, parent)
            except DuplicateProvider as duplicate:
                if provider.parent is None:
                    self._give_up_name(known)
                raise self._named_by_owner(provider, duplicate) from duplicate
        return replace(known, name=provider.name, parent=parent, undeleted=False)

    def _give_up_name(self, known: KnownProvider) -> None:
        """Name a node's provider by its uuid, which no other has, until the name that it needs is free.

        Two nodes that swap their names would otherwise wait for each other for ever.
        """
        if known.name != known.uuid:
            self._api.rename(known.uuid, known.uuid, known.parent)
            self._store(replace(known, name=known.uuid))

    def _restored_parent(self, provider: Provider) -> bool:
        """Create the parent of a provider again if somebody deleted it, which a refusal may be about."""
        parent = self._parent_of(provider)
        if provider.parent is None or parent is None or self._api.tree(parent):
            return False
        if parent in self._known:
            self._forget(parent)
        self._settle(self._desired[provider.parent])
        return True

    # What is not desired.

    def _of_other_trees(self) -> list[KnownProvider]:
        """Return what is left of other trees. If a name is needed, what was in use is tried again."""
        roots = self._known.keys() - {self._root}
        others = [each for each in self._undesired() if root_of(each, self._known) in roots]
        names = {each.name for each in self._desired.values()}
        if any(each.name in names for each in others):
            others = [replace(each, undeleted=False) for each in others]
        return others

    def _delete(self, undesired: Iterable[KnownProvider]) -> None:
        """Delete providers; what has allocations stays, all of it reserved. Those in doubt may have another
        parent than is known, which then was tried too early.
        """
        candidates = [each for each in undesired if not each.undeleted]
        in_use, left = self._deleted_but(candidates), len(candidates)
        while any(each.in_doubt for each in candidates) and 0 < len(in_use) < left:
            # What was deleted may have been below these: a move whose answer was lost.
            in_use, left = self._deleted_but(in_use), len(in_use)
        leftovers = self._leftovers(in_use)
        if leftovers or any(each.in_doubt or each.generation == UNREAD for each in candidates):
            in_use = self._deleted_but([*in_use, *leftovers])
        for known in in_use:
            self._retain(known)

    def _deleted_but(self, candidates: Iterable[KnownProvider]) -> list[KnownProvider]:
        """Delete providers; return those that are in use."""
        in_use = []
        for known in deepest_first(candidates):
            if any(each.parent == known.uuid for each in self._known.values()):
                in_use.append(known)
                continue
            self._store(replace(known, in_doubt=True))
            try:
                self._api.delete(known.uuid)
            except ProviderInUse:
                in_use.append(self._store(known))
                continue
            except ProviderNotFound:
                pass
            del self._known[known.uuid]
        return in_use

    def _leftovers(self, in_use: Iterable[KnownProvider]) -> list[KnownProvider]:
        """Return the unknown children of ours that may be what keeps a provider from being deleted."""
        before = set(self._known)
        for known in in_use:
            if known.uuid not in self._rows:
                self._tree(known.uuid)
        return [each for each in self._undesired() if each.uuid not in before]

    def _retain(self, known: KnownProvider) -> None:
        """Reserve all of a provider that cannot be deleted."""
        failed: PlacementError
        for _ in range(TRIES):
            try:
                if known.generation == UNREAD or known.in_doubt:
                    known = self._contents.read(self._named(known))
                self._store(replace(known, in_doubt=True))
                self._store(self._contents.reserve_all(known))
                return
            except GenerationConflict as conflict:
                failed = conflict
                known = replace(known, in_doubt=True)
            except ProviderNotFound:
                del self._known[known.uuid]
                return
        raise failed

    # What others changed.

    def _compare(self, known: KnownProvider, row: ProviderRow | None) -> None:
        found = None if row is None else self._found(known, row)
        if found is None:
            self._store(replace(known, foreign=known.foreign + (not known.in_doubt)))
            self._forget(known.uuid)
            return
        foreign = known.foreign + 1 if self._was_changed(known, found) else 0
        self._store(replace(found, foreign=foreign))

    def _found(self, known: KnownProvider, row: ProviderRow) -> KnownProvider | None:
        """Return a provider as it is, None if it was deleted meanwhile."""
        found = replace(known, name=row.name, parent=row.parent)
        try:
            if known.in_doubt or row.generation != known.generation:
                found = self._contents.read(found)
            if known.undeleted and known.uuid not in self._uuids.values():
                return replace(found, undeleted=False)
            return self._contents.still_kept(found)
        except ProviderNotFound:
            return None

    def _was_changed(self, known: KnownProvider, found: KnownProvider) -> bool:
        """Tell whether a provider is neither as it was written nor as it is desired: a write of ours whose
        result is not known is nobody else's.
        """
        if known.in_doubt or known.generation == UNREAD or is_as_written(known, found):
            return False
        by_uuid: Mapping[str, Provider] = {self._uuids[uuid]: each for uuid, each in self._desired.items()}
        provider = by_uuid.get(known.uuid)
        if provider is None:
            return True
        named = (found.name, found.parent) == (provider.name, self._parent_of(provider))
        return not (named and is_as_desired(provider, found))
