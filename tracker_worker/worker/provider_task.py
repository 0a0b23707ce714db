# SPDX-License-Identifier: Apache-2.0
"""One node's sync with Placement, but for its requests: what to ask, and what to write down after. Pure."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.db.providers import DueProviders, SyncRecord
from tracker_worker.domain.node import Node
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    PlacementUnavailable,
    ProviderNotFound,
)
from tracker_worker.placement.known_tree import roots_of
from tracker_worker.placement.provider import uuid_of
from tracker_worker.placement.records import KnownProvider, Provider
from tracker_worker.placement.sync import Synced, SyncInterrupted

FOREIGN = 2
"""So many refreshes in a row have to find a provider changed before another writer is named."""
FIRST_REFRESH_SECONDS = 10.0
"""From the first sync of a node to its first refresh, at most."""
SOON, MOST_SECONDS = 1.0, 300.0
"""Pauses after the first failed attempt, and at most, in seconds; each is twice as long as the one before."""
JITTER = (0.9, 1.1)
"""The time from one refresh to the next is that of the option, multiplied by a factor between these."""
_AGAIN = (GenerationConflict, ProviderNotFound)
_KEPT = "inventory_in_use"
_UNDELETED = "provider_in_use"


class Request(Enum):
    """What a task asks of Placement."""

    NOTHING = 0
    PUSH = 1
    REFRESH = 2


class ProviderTask(Struct, frozen=True):
    """A node that is due: its row, its report, and its providers as they shall be and as they are known.

    `digest` is that of `desired`, None for a node that was removed.
    """

    due: DueProviders
    node: Node
    desired: tuple[Provider, ...]
    digest: str | None
    known: tuple[KnownProvider, ...]

    @property
    def request(self) -> Request:
        """What is to be asked: nothing where a change was marked that makes no difference."""
        due = self.due
        if self.digest is None and due.error_code == _UNDELETED:
            return Request.REFRESH  # It tries again what had allocations.
        if due.digest is None or due.digest != self.digest:
            return Request.PUSH
        return Request.REFRESH if due.changed_at is None or due.error_code is not None else Request.NOTHING


def known_of(due: DueProviders) -> tuple[KnownProvider, ...]:
    """Return the known providers of a row. One that this version cannot read is asked for again."""
    try:
        return msgspec.convert(due.known or (), tuple[KnownProvider, ...])
    except msgspec.ValidationError:
        return ()


def former_roots(due: Iterable[DueProviders], nodes: Mapping[str, Node]) -> set[str]:
    """Return the uuids of the trees that nodes still have in Placement, but do not report any more."""
    found = set[str]()
    for each in due:
        resources = nodes[each.node].resources
        found |= roots_of(known_of(each)) - ({uuid_of(resources)} if resources else set())
    return found


def stored(known: tuple[KnownProvider, ...]) -> Any:
    """Return known providers as JSON values."""
    return msgspec.to_builtins(known, order="deterministic")


def synced_record(task: ProviderTask, synced: Synced, refresh_in: float) -> SyncRecord:
    """Return what to write down of a sync that ended. `refresh_in` is in seconds."""
    kept = ", ".join(f"{name}: {', '.join(sorted(classes))}" for name, classes in sorted(synced.kept.items()))
    code = error = None
    if synced.undeleted:
        code = _UNDELETED
        error = f"has allocations and is not deleted: {', '.join(synced.undeleted)}; all of it is reserved"
    elif kept:
        code = _KEPT
        error = f"has allocations, is not taken away, and is reserved as a whole: {kept}"
    if task.due.synced_at is None:
        # An event that began before the node had a row could not mark it: its change is found soon.
        refresh_in = min(refresh_in, FIRST_REFRESH_SECONDS)
    foreign = [each.name for each in synced.known if each.foreign >= FOREIGN]
    return SyncRecord(
        due=task.due,
        known=stored(synced.known),
        digest=task.digest,
        due_in=refresh_in,
        complete=True,
        removed=task.digest is None and not synced.known,
        error_code=code,
        error=error,
        foreign_provider=min(foreign, default=None),
    )


def unchanged_record(task: ProviderTask, refresh_in: float) -> SyncRecord:
    """Return what to write down of a mark that makes no difference. The next refresh is not put off.

    `refresh_in` is the time in seconds from the last sync to the next.
    """
    due = task.due
    passed = refresh_in if due.synced_at is None else (due.now - due.synced_at).total_seconds()
    record = synced_record(task, Synced(task.known), max(refresh_in - passed, 0.0))
    return replace(record, asked=False)


def interrupted_record(
    task: ProviderTask, failure: SyncInterrupted, refresh_in: float, retry_max: float
) -> SyncRecord:
    """Return what to write down of a sync that failed. `refresh_in` and `retry_max` are in seconds.

    What Placement refuses is not tried again before the node is marked, but a refresh goes on. A name that
    another provider has may be free at the next refresh: no event says so.
    """
    cause = failure.cause
    due_in = None
    if isinstance(cause, PlacementUnavailable):
        # An outage is no fault of the node, which has to be synced soon after its end.
        due_in = min(pause(task.due.attempts), retry_max)
    elif isinstance(cause, _AGAIN):
        due_in = pause(task.due.attempts)
    elif isinstance(cause, DuplicateProvider) or task.request is Request.REFRESH:
        due_in = refresh_in
    digest = None if task.request is Request.PUSH else task.due.digest
    known, text = stored(failure.known), str(cause)
    return SyncRecord(task.due, known, digest, due_in, complete=False, error_code=cause.code, error=text)


def failed_record(due: DueProviders, code: str, error: str, due_in: float | None = None) -> SyncRecord:
    """Return what to write down of a node that Placement was not asked about.

    It is tried again `due_in` seconds later; None: not before it is marked.
    """
    return SyncRecord(due, due.known, due.digest, due_in, complete=False, error_code=code, error=error)


def longest_wait(refresh_interval: float, retry_max: float) -> float:
    """Return the most seconds after which a node may be due, from the seconds of the settings.

    A time that is further away is not one: the database's clock was set back after it was written, or an
    interval was made shorter.
    """
    return max(refresh_interval * max(JITTER), retry_max, MOST_SECONDS)


def pause(attempts: int) -> float:
    """Return the seconds until the next attempt after so many that failed before."""
    return min(SOON * 2.0 ** min(attempts, 16), MOST_SECONDS)
