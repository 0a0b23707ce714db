# SPDX-License-Identifier: Apache-2.0
"""A broker without a network: queues, single active consumers, unacknowledged messages, redelivery.

A worker's subscription sees it as py-amqp's connection. When the broker drops a connection, the worker
notices at its next read; acknowledgements that it sends before that are lost.
"""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from amqp.protocol import queue_declare_ok_t

from tests.simulation.faults import Violation
from tracker_worker.bus.rabbit.frames import BodyAction, BodyFilter

PREFETCH = 8


@dataclass(eq=False)
class Message:
    """A message on its way; `redelivered` once it was handed out."""

    body: bytes
    queue: str
    node: str
    event_id: str
    redelivered: bool = False


@dataclass(eq=False)
class Queue:
    """`consumers` in the order in which they came: the first one is the active one."""

    ready: deque[Message] = field(default_factory=deque)
    consumers: list["Channel"] = field(default_factory=list)


class Channel:
    """A channel with one consumer."""

    auto_decode = False

    def __init__(self, connection: "Connection", channel_id: int) -> None:
        self._connection = connection
        self.channel_id = channel_id
        self._queue: Queue | None = None
        self._tags = 0
        self.unacknowledged: dict[int, Message] = {}
        self.callback: Callable[[Any], None] | None = None
        self.prefetch = 0

    def basic_qos(self, _size: int, prefetch: int, _whole_connection: bool) -> None:
        self.prefetch = prefetch

    def basic_consume(self, queue: str, *, consumer_tag: str, callback: Callable[[Any], None]) -> None:
        self.callback = callback
        self._queue = self._connection.broker.queues.setdefault(queue, Queue())
        self._queue.consumers.append(self)

    def queue_declare(self, queue: str, *, passive: bool) -> queue_declare_ok_t:
        """Answer how many messages and consumers a queue has."""
        assert passive
        found = self._connection.broker.queues[queue]
        return queue_declare_ok_t(queue, len(found.ready), len(found.consumers))

    def basic_ack(self, tag: int, *, multiple: bool) -> None:
        """Acknowledge: without effect on a dropped connection, an error for what was never delivered."""
        if not self._connection.open:
            return
        known = tag <= self._tags if multiple else tag in self.unacknowledged
        if not known:
            raise Violation(f"acknowledges tag {tag} of a channel that has {self._tags}")
        for delivered in [each for each in self.unacknowledged if each == tag or (multiple and each < tag)]:
            self._connection.broker.forget(self.unacknowledged.pop(delivered))

    def hand_out(self, most: int) -> int:
        """Send messages to the consumer if it is the active one; return how many."""
        assert self._queue is not None
        if self._queue.consumers[0] is not self:
            return 0
        sent = 0
        while self._queue.ready and sent < most and len(self.unacknowledged) < self.prefetch:
            message = self._queue.ready.popleft()
            self._tags += 1
            self.unacknowledged[self._tags] = message
            delivery = {"delivery_tag": self._tags, "redelivered": message.redelivered}
            self._connection.send(
                self,
                SimpleNamespace(body=message.body, delivery_info=delivery, properties={}),
            )
            sent += 1
        return sent

    def end(self) -> None:
        """Put back what is not acknowledged, in order; the next consumer becomes the active one."""
        if self._queue is None:
            return
        for message in reversed(self.unacknowledged.values()):
            message.redelivered = True
            self._queue.ready.appendleft(message)
        self.unacknowledged = {}
        self._queue.consumers.remove(self)


class Connection:
    """As much of amqp.Connection as a subscription uses."""

    def __init__(self, broker: "Broker") -> None:
        self.broker = broker
        self.open = True
        """Whether the broker still has it. The worker notices the end at its next read."""
        self.connected = True
        """Whether the worker takes it for open."""
        self.bodies = BodyFilter()
        self.channels: list[Channel] = []
        self._frames: deque[tuple[Channel, Any] | None] = deque()
        self.sock, self._far = socket.socketpair()
        self.transport = SimpleNamespace(sock=self.sock, _read_buffer=b"")

    def channel(self) -> Channel:
        self.channels.append(Channel(self, len(self.channels) + 1))
        return self.channels[-1]

    def send(self, channel: Channel, message: Any) -> None:
        self._put((channel, message))

    def tick(self) -> None:
        """Give the reader something to read, so that it does not wait."""
        self._put(None)

    def blocking_read(self) -> None:
        """Take one frame in; in the buffer it is a byte."""
        self.transport._read_buffer = self.transport._read_buffer[1:]
        frame = self._frames.popleft()
        if frame is not None:
            channel, message = frame
            assert channel.callback is not None
            if self.bodies.admit(channel.channel_id, len(message.body)) is BodyAction.TAKE:
                channel.callback(message)
        if not self.open and not self._frames:
            raise ConnectionResetError("the broker has closed the connection")

    def heartbeat_tick(self, rate: int) -> None:
        """There are no heartbeats."""

    def drop(self) -> None:
        """The broker's side: forget the connection and redeliver its messages to others."""
        if self.open:
            self.open = False
            for channel in self.channels:
                channel.end()

    def close(self) -> None:
        """The worker's side."""
        self.drop()
        self.collect()

    def collect(self) -> None:
        self.connected = False
        self.sock.close()
        self._far.close()

    def _put(self, frame: tuple[Channel, Any] | None) -> None:
        self._frames.append(frame)
        self._far.send(b"!")


class Broker:
    """Calls `settled` with each message that is acknowledged, and forgets it."""

    def __init__(self, settled: Callable[[Message], None]) -> None:
        self.queues: dict[str, Queue] = {}
        self._settled = settled
        self.waiting = 0

    def publish(self, message: Message) -> None:
        self.queues.setdefault(message.queue, Queue()).ready.append(message)
        self.waiting += 1

    def forget(self, message: Message) -> None:
        self.waiting -= 1
        self._settled(message)
