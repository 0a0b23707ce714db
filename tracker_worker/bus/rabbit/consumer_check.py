# SPDX-License-Identifier: Apache-2.0
"""Asks the broker whether it still has the consumers that this worker believes to have.

A broker may lose a consumer without a word, for example when a member of its cluster restarts; the connection
and its heartbeats stay intact. Without this check such a worker would wait for ever.
"""

import logging
from collections.abc import Iterable

from tracker_worker.bus.rabbit.channel import Channel

LOG = logging.getLogger(__name__)

CLASSIC_ANSWERS = 1
QUORUM_ANSWERS = 2
"""RabbitMQ reports no consumers of a quorum queue, too, while the queue's leader is absent or late."""


class ConsumerLost(ConnectionError):
    """The broker has no consumer of a queue that this connection consumes."""


class ConsumerCheck:
    """Asks about one queue at a time, so that each is asked about every `seconds`, from `now` on.

    A consumer is lost after `answers` without it in a row. Belongs to the consumer's thread.
    """

    def __init__(self, seconds: float, now: float, answers: int) -> None:
        self._answers = answers
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

        Raises ConsumerLost if the broker has no consumer of that queue, CONNECTION_ERRORS if it does not
        answer.
        """
        consuming = [channel for channel in channels if channel.released is None]
        self.next_at = now + self._seconds / max(len(consuming), 1)
        if not consuming:
            return
        self._number = (self._number + 1) % len(consuming)
        channel = consuming[self._number]
        found = channel.channel.queue_declare(channel.queue, passive=True)
        if found.consumer_count:
            channel.unconfirmed = 0
            self._ready[channel.partition] = found.message_count
            return
        channel.unconfirmed += 1
        if channel.unconfirmed >= self._answers:
            raise ConsumerLost(f"the broker has lost the consumer of {channel.queue}")
        text = (
            "Queue %s: the broker reports no consumer of it, maybe without its leader; asking again in %.0f s"
        )
        LOG.warning(text, channel.queue, self._seconds)
