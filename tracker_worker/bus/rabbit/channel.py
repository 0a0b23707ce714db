# SPDX-License-Identifier: Apache-2.0
"""One partition's channel and its deliveries: what is not acknowledged, and what it takes of memory."""

from collections.abc import Callable
from typing import Any, Protocol

from tracker_worker.bus.rabbit.replies import Reply, reply_to
from tracker_worker.bus.rabbit.unacked import UnackedDeliveries
from tracker_worker.bus.rabbit.windows import Window
from tracker_worker.core.compression import compression_of
from tracker_worker.core.delivery import Answer, BodyDigest, EventInbox


class Settling(Protocol):
    """Who acknowledges what is settled."""

    def settled(self, channel: "Channel", delivery: "RabbitDelivery") -> None:
        """Have a delivery acknowledged. Any thread."""
        ...


class RabbitDelivery:
    """A message of a queue; `settle` may be called from any thread, once."""

    __slots__ = (
        "_channel",
        "body",
        "compression",
        "dead_lettered",
        "partition",
        "redelivered",
        "reply",
        "size",
        "tag",
    )

    def __init__(
        self, channel: "Channel", message: Any, digest: BodyDigest | None, dead_lettered: str | None
    ) -> None:
        self._channel = channel
        body: bytes = message.body or b""  # py-amqp has a text for an empty one
        self.size = len(body)
        self.body: bytes | BodyDigest = digest or body
        self.compression = compression_of(message.properties.get("application_headers"))
        self.partition = channel.partition
        self.redelivered: bool = message.delivery_info["redelivered"]
        self.dead_lettered = dead_lettered
        self.tag: int = message.delivery_info["delivery_tag"]
        self.reply: Reply | None = None

    @property
    def live(self) -> bool:
        """False once the channel is closed on which alone it can be acknowledged."""
        return self._channel.open

    def settle(self, answer: Answer) -> None:
        """Have it answered and acknowledged by the consumer's thread; nothing, when its channel is gone.

        An answer that cannot be encoded is raised, and the message acknowledged all the same.
        """
        if not self._channel.open:
            return
        try:
            self.reply = reply_to(self.body, answer, self.compression)
        finally:
            self._channel.subscription.settled(self._channel, self)


class Channel:
    """One partition's channel: which of its deliveries are not acknowledged, and what they take of memory."""

    def __init__(
        self,
        subscription: Settling,
        channel: Any,
        partition: int,
        inbox: EventInbox,
        window: Window,
    ) -> None:
        self.subscription = subscription
        self.inbox = inbox
        self.channel = channel
        self.partition = partition
        self.window = window
        self.open = True
        self.unacked = UnackedDeliveries()
        self.released: Callable[[], None] | None = None
        """What to call once all is settled, for a channel that takes no more."""

    def settle(self, delivery: RabbitDelivery) -> None:
        """Note that a delivery may be acknowledged and needs no memory any more."""
        self.unacked.settle(delivery.tag)
        self.window.release(delivery.size)

    def acknowledge(self) -> None:
        """Acknowledge all that is settled: what is settled in order, in one go."""
        for tag, multiple in self.unacked.acks():
            self.channel.basic_ack(tag, multiple=multiple)
