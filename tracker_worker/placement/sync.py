# SPDX-License-Identifier: Apache-2.0
"""Brings the providers of one node to the desired state. No clock, no thread and no database here.

The caller stores what is known of the providers: `in_flight` before a push, the result after it, and what an
interrupted one has made. If it loses it, the next sync reads what there is and goes on from there.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.contents import ProviderContents, about_to_write
from tracker_worker.placement.errors import PlacementError
from tracker_worker.placement.known_tree import matched
from tracker_worker.placement.records import KnownProvider, Provider
from tracker_worker.placement.tree_sync import TreeSync

Providers = tuple[Provider, ...]
KnownProviders = tuple[KnownProvider, ...]


class Synced(Struct, frozen=True):
    """The providers as they are after a sync: the desired ones first, parents before children."""

    known: KnownProviders

    @property
    def kept(self) -> Mapping[str, frozenset[str]]:
        """The resource classes that were to go and have allocations, by the name of the provider."""
        return {each.name: each.kept for each in self.known if each.kept and not each.undeleted}

    @property
    def undeleted(self) -> tuple[str, ...]:
        """The names of providers that were to go and have allocations, or children of others."""
        return tuple(each.name for each in self.known if each.undeleted)


class SyncInterrupted(Exception):
    """A request failed. `known` is the result of the requests before it: the caller stores it and tries again
    later. `cause` is the error; its class tells what to do.
    """

    def __init__(self, known: KnownProviders, cause: PlacementError) -> None:
        super().__init__(str(cause))
        self.known = known
        self.cause = cause


def in_flight(desired: Providers, known: KnownProviders) -> KnownProviders:
    """Return what is known of the providers while a push is on its way: `known` itself if it has nothing to
    send. The caller stores it before the push, to which it gives `known`.

    A process that is killed in between leaves requests behind whose results are not stored. The next reads
    the providers in doubt again, deletes those that are not desired any more and takes away traits. Otherwise
    it would not know a provider, take a trait for another's, and a provider for what it is no more.
    """
    found = matched(desired, known)
    uuids = {each.uuid: each.uuid for each in desired} | {uuid: each.uuid for uuid, each in found.items()}
    ours = set(uuids.values())
    written = [about_to_write(each, found.get(each.uuid), uuids.get(each.parent or "")) for each in desired]
    deleted = [
        each if each.undeleted else replace(each, in_doubt=True) for each in known if each.uuid not in ours
    ]
    return (*written, *deleted)


class Sync:
    """Syncs providers over an API. Any thread."""

    def __init__(self, api: PlacementApi) -> None:
        self._api = api
        self._contents = ProviderContents(api)

    def push(self, desired: Providers, known: KnownProviders) -> Synced:
        """Write what differs between the desired providers and the known ones; without a difference send
        nothing. `desired` has the node's own provider first and parents before children; it is empty for a
        node that was removed.

        Raises SyncInterrupted. Its cause is GenerationConflict if others changed a provider at each of the
        tries, and DuplicateProvider if a provider of another tree has a name that is needed.
        """
        return self._finished(desired, known, TreeSync.push)

    def refresh(self, desired: Providers, known: KnownProviders) -> Synced:
        """Compare the known providers with Placement, count those that others changed as `foreign`, try again
        what was kept because of allocations, and push. 1 request where all generations stand.

        Raises SyncInterrupted as `push` does.
        """
        return self._finished(desired, known, TreeSync.refresh)

    def _finished(self, desired: Providers, known: KnownProviders, run: Callable[[TreeSync], None]) -> Synced:
        tree = TreeSync(self._api, self._contents, desired, known)
        try:
            run(tree)
        except PlacementError as cause:
            raise SyncInterrupted(tree.known(), cause) from cause
        return Synced(tree.known())
