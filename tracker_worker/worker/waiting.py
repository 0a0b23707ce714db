# SPDX-License-Identifier: Apache-2.0
"""What waits for a lane: a queue for each partition, taken in turn, so that none waits for another."""

import queue
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from tracker_worker.bus.delivery import Delivery

SHARES, LEAST_SHARE = 4, 16
"""A partition fills this part of a batch when it waits alone, and less when others wait too."""


class Waiting:
    """Deliveries by partition, at most `prefetch` of each.

    `put` and `drop` may be called from any thread, `take` only from the lane's.
    """

    def __init__(self, partitions: Iterable[int], prefetch: int) -> None:
        self._queues = {p: queue.Queue[Delivery](prefetch) for p in partitions}
        self._turn = deque(self._queues)
        self._held: Delivery | None = None

    def put(self, delivery: Delivery, seconds: float) -> bool:
        """Add a delivery; False when its partition stayed full for these seconds."""
        try:
            self._queues[delivery.partition].put(delivery, timeout=seconds)
        except queue.Full:
            return False
        return True

    def drop(self, partition: int) -> None:
        """Forget what waits for a partition."""
        with suppress(queue.Empty):
            while True:
                self._queues[partition].get_nowait()

    def take(self, most: int, most_bytes: int) -> list[Delivery]:
        """Take from the partitions in turn, from each in order; nothing when nothing waits.

        What would make the batch too large is held for the next one, which it begins.
        """
        taken = [self._held] if self._held is not None and self._held.live else []
        size = sum(len(delivery.body) for delivery in taken)
        self._held = None
        waiting = deque(self._turn)
        rooms = dict.fromkeys(waiting, self._share(most))
        while waiting and len(taken) < most:
            partition = waiting[0]
            if not rooms[partition]:
                waiting.popleft()
                continue
            try:
                delivery = self._queues[partition].get_nowait()
            except queue.Empty:
                waiting.popleft()
                continue
            waiting.rotate(-1)
            if not delivery.live:
                continue
            rooms[partition] -= 1
            self._turn.rotate(-self._turn.index(partition) - 1)
            size += len(delivery.body)
            if taken and size > most_bytes:
                self._held = delivery
                break
            taken.append(delivery)
        return taken

    def _share(self, most: int) -> int:
        """Return how many events of one partition a batch may have.

        Who calls a node of an idle partition waits for a batch under way and for his own: both are short,
        however much waits for another node.
        """
        waiting = sum(not partition.empty() for partition in self._queues.values())
        return max(most // (SHARES * max(waiting, 1)), LEAST_SHARE)
