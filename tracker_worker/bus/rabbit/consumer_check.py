# SPDX-License-Identifier: Apache-2.0
"""Asks the broker whether it still has the consumers that this worker believes to have.

A broker may lose a consumer without a word, for example when a member of its cluster restarts; the connection
and its heartbeats stay intact. Without this check such a worker would wait for ever.
"""

from collections.abc import Iterable

import amqp

from tracker_worker.bus.rabbit.channel import Channel


class ConsumerCheck:
    """Asks about one queue at a time, so that each is asked about every `seconds`, from `now` on.

    Belongs to the consumer's thread.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._ready: dict[int, int] = {}
        self.next_at = now + seconds
        self._seconds = seconds
        self._number = 0

    def ready_in(self, channels: Iterable[Channel]) -> dict[int, int]:
        """Return how many messages waited in the queues of these channels when the broker was asked last, by
        partition or OtherQueue.
        """
        partitions = {channel.partition for channel in channels}
        return {partition: n for partition, n in self._ready.items() if partition in partitions}

    def check(self, channels: Iterable[Channel], now: float) -> None:
        """Ask about the next queue: one round trip.

        Raises CONNECTION_ERRORS if the broker has no consumer of that queue, or does not answer.
        """
        consuming = [channel for channel in channels if channel.released is None]
        self.next_at = now + self._seconds / max(len(consuming), 1)
        if not consuming:
            return
        self._number = (self._number + 1) % len(consuming)
        channel = consuming[self._number]
        found = channel.channel.queue_declare(channel.queue, passive=True)
        if not found.consumer_count:
            raise amqp.RecoverableConnectionError(f"the broker has lost the consumer of {channel.queue}")
        self._ready[channel.partition] = found.message_count
