# SPDX-License-Identifier: Apache-2.0
"""One partition's channel: its unacknowledged deliveries, and the memory that their bodies take."""

from collections.abc import Callable
from typing import Any, Protocol

from tracker_worker.bus.rabbit.replies import Reply, reply_to
from tracker_worker.bus.rabbit.unacked import UnackedDeliveries
from tracker_worker.bus.rabbit.windows import Window
from tracker_worker.core.compression import compression_of
from tracker_worker.core.delivery import Answer, BodyDigest, EventInbox


class Settling(Protocol):
    """Acknowledges settled deliveries."""

    def settled(self, channel: "Channel", delivery: "RabbitDelivery") -> None:
        """Queue a settled delivery for its reply and acknowledgement. Any thread."""
        ...


class RabbitDelivery:
    """A delivery from a queue. Any thread may call `settle`, once."""

    __slots__ = (
        "_channel",
        "body",
        "compression",
        "dead_lettered",
        "partition",
        "received_at",
        "redelivered",
        "reply",
        "size",
        "tag",
    )

    def __init__(
        self,
        channel: "Channel",
        message: Any,
        digest: BodyDigest | None,
        dead_lettered: str | None,
        received_at: float,
    ) -> None:
        self._channel = channel
        body: bytes = message.body or b""  # py-amqp returns a str for an empty body
        self.size = len(body)
        self.body: bytes | BodyDigest = digest or body
        self.compression = compression_of(message.properties.get("application_headers"))
        self.partition = channel.partition
        self.redelivered: bool = message.delivery_info["redelivered"]
        self.dead_lettered = dead_lettered
        self.received_at = received_at
        self.tag: int = message.delivery_info["delivery_tag"]
        self.reply: Reply | None = None

    @property
    def live(self) -> bool:
        """False once its channel is closed: a delivery can only be acknowledged on its own channel."""
        return self._channel.open

    def settle(self, answer: Answer) -> None:
        """Have the consumer's thread send the reply and acknowledge; do nothing if the channel is closed.

        Raises the error of an answer that cannot be encoded. The message is acknowledged all the same.
        """
        if not self._channel.open:
            return
        try:
            self.reply = reply_to(self.body, answer, self.compression)
        finally:
            self._channel.subscription.settled(self._channel, self)


class Channel:
    """One partition's channel, with its unacknowledged deliveries and their share of the memory budget."""

    def __init__(
        self,
        subscription: Settling,
        channel: Any,
        partition: int,
        queue: str,
        inbox: EventInbox,
        window: Window,
    ) -> None:
        self.subscription = subscription
        self.inbox = inbox
        self.channel = channel
        self.partition = partition
        self.queue = queue
        self.window = window
        self.open = True
        self.unacked = UnackedDeliveries()
        self.active = False
        """Whether a message was delivered: the others that consume the queue stand by from then on."""
        self.unconfirmed = 0
        """How often in a row the broker did not report this consumer."""
        self.released: Callable[[], None] | None = None
        """Called once all deliveries are acknowledged. Set while the partition is being released."""

    def settle(self, delivery: RabbitDelivery) -> None:
        """Mark a delivery for acknowledgement, and release its memory."""
        self.unacked.settle(delivery.tag)
        self.window.release(delivery.size)

    def acknowledge(self) -> None:
        """Acknowledge the settled deliveries, with `multiple` where they are settled in order."""
        for tag, multiple in self.unacked.acks():
            self.channel.basic_ack(tag, multiple=multiple)
