# SPDX-License-Identifier: Apache-2.0
"""The inbox of a lane: one queue for each partition. Batches take from the partitions in turn."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tracker_worker.core.delivery import Delivery

SHARES, LEAST_SHARE = 4, 16
"""A partition fills this part of a batch when it waits alone, and less when others wait too."""
FULL_SECONDS = 0.5
"""Interval at which `put` checks for an abandoned lane while its partition is full."""


class Inbox:
    """Deliveries by partition: at most `prefetch` of each, and those that were put back.

    `put`, `drop`, `wake` and `waiting` may be used from any thread, everything else only from the lane's.
    Once `abandoned` is set `put` accepts nothing.
    """

    def __init__(self, partitions: Iterable[int], prefetch: int, abandoned: threading.Event) -> None:
        self._queues = {p: queue.Queue[Delivery](prefetch) for p in partitions}
        self._back = {p: deque[Delivery]() for p in self._queues}
        self._turn = deque(self._queues)
        self._deferred: set[int] = set()
        self._abandoned = abandoned
        self._wakeup = threading.Event()
        self._dropped = threading.Event()

    @property
    def has_deferred(self) -> bool:
        """Whether some partition is deferred."""
        return bool(self._deferred)

    @property
    def waiting(self) -> int:
        """How many deliveries wait, without those that were put back. Any thread."""
        return sum(partition.qsize() for partition in self._queues.values())

    def put(self, delivery: Delivery) -> bool:
        """Add a delivery; blocks while its partition has `prefetch` waiting.

        False once the lane is abandoned: the delivery was not taken.
        """
        while not self._abandoned.is_set():
            try:
                self._queues[delivery.partition].put(delivery, timeout=FULL_SECONDS)
            except queue.Full:
                continue
            self._wakeup.set()
            return True
        return False

    def drop(self, partition: int) -> None:
        """Drop the deliveries of a partition; those that were put back are dropped by `take`.

        Ends the lane's wait: what the lane knows of the partition's nodes ends too.
        """
        with suppress(queue.Empty):
            while True:
                self._queues[partition].get_nowait()
        self._dropped.set()
        self._wakeup.set()

    def wake(self) -> None:
        """End the lane's wait."""
        self._wakeup.set()

    def wait(self, seconds: float | None) -> None:
        """Wait for a delivery, a wake-up, or these seconds."""
        self._wakeup.wait(seconds)
        self._wakeup.clear()

    def was_dropped(self) -> bool:
        """Tell whether a partition was dropped since the last call."""
        if not self._dropped.is_set():
            return False
        self._dropped.clear()
        return True

    def defer(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries back in their order, and take none of their partitions until `resume`."""
        self.put_back(deliveries)
        self._deferred.update(delivery.partition for delivery in deliveries)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries back in front of their partitions, in their order."""
        for delivery in reversed(deliveries):
            self._back[delivery.partition].appendleft(delivery)

    def resume(self) -> None:
        """Take from all partitions again."""
        self._deferred.clear()

    def take(self, most: int, most_bytes: int) -> list[Delivery]:
        """Take at most `most` deliveries and `most_bytes` bytes, from the partitions in turn, from each in
        order.

        A delivery that would exceed `most_bytes` begins the next batch.
        """
        taken: list[Delivery] = []
        size = 0
        waiting = deque(partition for partition in self._turn if self._is_waiting(partition))
        rooms = dict.fromkeys(waiting, _share(most, len(waiting)))
        while waiting and len(taken) < most:
            partition = waiting[0]
            delivery = self._next(partition) if rooms[partition] else None
            if delivery is None:
                waiting.popleft()
                continue
            waiting.rotate(-1)
            if not delivery.live:
                continue
            size += len(delivery.body)
            if taken and size > most_bytes:
                self._back[partition].appendleft(delivery)
                break
            rooms[partition] -= 1
            self._turn.rotate(-self._turn.index(partition) - 1)
            taken.append(delivery)
        return taken

    def _next(self, partition: int) -> Delivery | None:
        if self._back[partition]:
            return self._back[partition].popleft()
        with suppress(queue.Empty):
            return self._queues[partition].get_nowait()
        return None

    def _is_waiting(self, partition: int) -> bool:
        """Tell whether a partition that is not deferred has deliveries."""
        if partition in self._deferred:
            return False
        return bool(self._back[partition]) or not self._queues[partition].empty()


def _share(most: int, waiting: int) -> int:
    """Return how many events of one partition a batch may have when so many partitions wait.

    The caller of a node in an idle partition waits for the batch in flight and for its own. This share keeps
    both short, however large the backlog of another partition is.
    """
    return max(most // (SHARES * max(waiting, 1)), LEAST_SHARE)
