# SPDX-License-Identifier: Apache-2.0
"""By which leases each node is synced by one process: there is one for each partition.

The worker that gets a partition's messages holds its lease. Who gets them is known only once one has come.
So a worker acquires the lease of an idle partition, too, but renews it only for requests that are in flight,
and begins no more of them meanwhile. It runs out, and stays free for a while, in which only the worker that
gets the partition's messages takes it.
"""

import math
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager

import sqlalchemy as sa
from msgspec import Struct
from oslo_db.exception import DBDeadlock, DBDuplicateEntry

from tracker_worker.db import leases
from tracker_worker.domain.partitions import partition_of, server_of

_RENEW = 1 / 2
"""The part of its time that is left of a lease when it is renewed."""
_RENEW_IDLE = 3 / 16
"""The part of its time that is left of the lease of an idle partition when it is renewed. Most requests that
were begun in time have ended by then, and a step that comes late still finds it held."""
_ASK = 1 / 8
"""After such a part of its time the lease of an active partition is asked for again."""
_ASK_IDLE = 1 / 4
"""After such a part of its time the lease of an idle partition is asked for again."""
_FREE = 1 / 4
"""For such a part of its time a lease that ran out stays free for the worker whose partition is active."""


class LeaseOwner(Struct, frozen=True):
    """A worker: an id that no other has, the number of partitions, and how to find the active ones.

    A partition is active if this worker gets its messages. `active` is called on the thread of the leases.
    """

    id: str
    partitions: int
    active: Callable[[], Collection[int]]


class PartitionLeases:
    """Acquires and renews leases with the transactions that it is given. Belongs to one thread.

    `seconds` is how long a lease lasts; `monotonic` is in seconds and never set back.
    """

    def __init__(
        self,
        owner: LeaseOwner,
        seconds: float,
        transaction: Callable[[], AbstractContextManager[sa.Connection]],
        monotonic: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._seconds = seconds
        self._transaction = transaction
        self._monotonic = monotonic
        self._until = dict.fromkeys(range(owner.partitions), -math.inf)
        self._asked_at = dict(self._until)
        # An idle partition's first end counts, so that its lease is not renewed again and again.
        self._begin_until = dict(self._until)

    def renew(self, in_flight: Iterable[str]) -> None:
        """Renew the leases before they run out, and ask for others now and then: some statements, or none.

        `in_flight` are the nodes with requests in flight. Raises errors of the database.
        """
        now = self._monotonic()
        active, in_use = frozenset(self._owner.active()), self._partitions_of(in_flight)
        self._begin_until.update((each, self._until[each]) for each in active)
        asked = frozenset(each for each in self._until if self._is_to_be_asked_for(each, active, in_use, now))
        # Apart: a transaction that takes both would lock rows in an order of its own.
        self._ask_for(asked & active, 0.0, now)
        self._ask_for(asked - active, self._seconds * _FREE, now)

    def holds(self, node: str) -> bool:
        """Tell whether this process is the one that syncs a node."""
        return self._until[partition_of(node, self._owner.partitions)] > self._monotonic()

    def may_begin(self, node: str) -> bool:
        """Tell whether there is time left to sync a node."""
        partition = partition_of(node, self._owner.partitions)
        ends = min(self._until[partition], self._begin_until[partition])
        return ends - self._monotonic() > self._seconds * _FREE

    @property
    def any_held(self) -> bool:
        """Whether this process holds a lease at all."""
        return max(self._until.values()) > self._monotonic()

    def release(self, in_flight: Iterable[str]) -> None:
        """Give the leases back, but for those of the nodes with requests in flight, which run out.

        Raises errors of the database.
        """
        in_use = self._partitions_of(in_flight)
        names = [
            _name(each) for each, until in self._until.items() if until > -math.inf and each not in in_use
        ]
        if names:
            with self._transaction() as connection:
                leases.release_all(connection, names, self._owner.id)
            self._until = dict.fromkeys(self._until, -math.inf)

    def _ask_for(self, partitions: frozenset[int], free: float, now: float) -> None:
        if not partitions:
            return
        names = {each: _name(each) for each in sorted(partitions)}
        try:
            with self._transaction() as connection:
                held = leases.acquire_all(connection, names.values(), self._owner.id, self._seconds, free)
        except (DBDuplicateEntry, DBDeadlock):
            # Another process acquires some of these leases at the same time. The next step asks again.
            return
        for partition, name in names.items():
            if self._until[partition] <= now:
                self._begin_until[partition] = now + self._seconds
            # Counted from before the statement: here it ends no later than there.
            self._until[partition] = now + self._seconds if name in held else -math.inf
            self._asked_at[partition] = now

    def _is_to_be_asked_for(
        self, partition: int, active: Collection[int], in_use: Collection[int], now: float
    ) -> bool:
        left, waited = self._until[partition] - now, now - self._asked_at[partition]
        if partition in active:
            return left <= self._seconds * _RENEW and waited >= self._seconds * _ASK
        if partition in in_use and left > 0:
            return left <= self._seconds * _RENEW_IDLE
        return left <= -self._seconds * _FREE and waited >= self._seconds * _ASK_IDLE

    def _partitions_of(self, nodes: Iterable[str]) -> frozenset[int]:
        return frozenset(partition_of(node, self._owner.partitions) for node in nodes)


def _name(partition: int) -> str:
    return f"{leases.PLACEMENT}.{server_of(partition)}"
