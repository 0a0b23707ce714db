# SPDX-License-Identifier: Apache-2.0
"""What waits for a lane: a queue for each partition, taken in turn, so that none waits for another."""

import queue
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from tracker_worker.core.delivery import Delivery

SHARES, LEAST_SHARE = 4, 16
"""A partition fills this part of a batch when it waits alone, and less when others wait too."""


class Waiting:
    """Deliveries by partition, at most `prefetch` of each besides what was put back.

    `put` and `drop` may be called from any thread, everything else only from the lane's.
    """

    def __init__(self, partitions: Iterable[int], prefetch: int) -> None:
        self._queues = {p: queue.Queue[Delivery](prefetch) for p in partitions}
        self._back = {p: deque[Delivery]() for p in self._queues}
        self._turn = deque(self._queues)
        self._resting: set[int] = set()

    @property
    def resting(self) -> bool:
        """Whether some partition rests."""
        return bool(self._resting)

    def put(self, delivery: Delivery, seconds: float) -> bool:
        """Add a delivery; False when its partition stayed full for these seconds."""
        try:
            self._queues[delivery.partition].put(delivery, timeout=seconds)
        except queue.Full:
            return False
        return True

    def drop(self, partition: int) -> None:
        """Forget what waits for a partition; what was put back is dropped when it is taken."""
        with suppress(queue.Empty):
            while True:
                self._queues[partition].get_nowait()

    def rest(self, deliveries: Sequence[Delivery]) -> None:
        """Put back what was taken, in its order, and take nothing from its partitions until `wake`."""
        self.put_back(deliveries)
        self._resting.update(delivery.partition for delivery in deliveries)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let what was taken be the next, in its order."""
        for delivery in reversed(deliveries):
            self._back[delivery.partition].appendleft(delivery)

    def wake(self) -> None:
        """Take from all partitions again."""
        self._resting.clear()

    def take(self, most: int, most_bytes: int) -> list[Delivery]:
        """Take from the partitions in turn, from each in order; nothing when nothing waits.

        What would make the batch too large begins the next one.
        """
        taken: list[Delivery] = []
        size = 0
        waiting = deque(partition for partition in self._turn if partition not in self._resting)
        rooms = dict.fromkeys(waiting, self._share(most))
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

    def _share(self, most: int) -> int:
        """Return how many events of one partition a batch may have.

        Who calls a node of an idle partition waits for a batch under way and for his own: both are short,
        however much waits for another node.
        """
        waiting = sum(not partition.empty() for partition in self._queues.values())
        return max(most // (SHARES * max(waiting, 1)), LEAST_SHARE)
