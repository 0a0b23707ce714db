# SPDX-License-Identifier: Apache-2.0
"""The consumers of one connection, each on its own channel. Their deliveries end with the connection."""

import logging
import math
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import amqp
from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.bus.rabbit.call_monitor import CallMonitor
from tracker_worker.bus.rabbit.channel import Channel, RabbitDelivery
from tracker_worker.bus.rabbit.connection import close_connection
from tracker_worker.bus.rabbit.consumer_check import CLASSIC_ANSWERS, QUORUM_ANSWERS, ConsumerCheck
from tracker_worker.bus.rabbit.frames import BodyAction, BodyFilter
from tracker_worker.bus.rabbit.queues import Topology, queue_name
from tracker_worker.bus.rabbit.replies import Replies, Reply, is_call
from tracker_worker.bus.rabbit.socket_io import read_waiting, waiting
from tracker_worker.bus.rabbit.windows import Limits, MemoryBudget, Window
from tracker_worker.bus.state import IngressState
from tracker_worker.core.delivery import EventSink, OtherQueue
from tracker_worker.core.envelope import MAX_BODY_BYTES
from tracker_worker.core.stats import Stats

LOG = logging.getLogger(__name__)

EXPIRED = "expired"
REASONS = ("rejected", EXPIRED, "maxlen", "delivery_limit")
TURN_SECONDS = 1.0
"""Longest wait, and longest read, of one `poll_once`. Heartbeats and the frames of the replies' connection
are delayed by this much at most."""


class SubscriptionSettings(Struct, frozen=True):
    """What to consume: the `preferred_partitions` at once, the others `standby_delay` seconds later.

    `prefetch` limits the unacknowledged messages of a partition, `memory_budget` the bytes of all their
    bodies. Consumer tags begin with `name`. The broker is asked about each consumer, and whether it takes
    messages, every `check_seconds`.
    """

    name: str
    preferred_partitions: frozenset[int]
    standby_delay: float = 10.0
    prefetch: int = 256
    memory_budget: int = 256 * 1024 * 1024
    heartbeat_rate: int = 3
    check_seconds: float = 30.0


class Subscription:
    """Belongs to the consumer's thread, except `settled`, `release` and `wake`. Raises CONNECTION_ERRORS.

    Once `stopping` is set, new deliveries are ignored, and requeued when the connection closes. `monotonic`
    is a clock in seconds that is never set back.
    """

    def __init__(
        self,
        connection: amqp.Connection,
        bodies: BodyFilter,
        topology: Topology,
        settings: SubscriptionSettings,
        sink: EventSink,
        replies: Replies,
        stopping: threading.Event,
        monotonic: Callable[[], float],
        stats: Stats,
    ) -> None:
        self._connection = connection
        self._bodies = bodies
        self._bodies.admit = self._admit
        self._topology = topology
        self._settings = settings
        self._sink = sink
        self._replies = replies
        self._stopping = stopping
        self._monotonic = monotonic
        self._stats = stats
        self._queues = frozenset(queue.name for queue in topology.queues())
        self._channels: dict[int, Channel] = {}
        self._budget = MemoryBudget(settings.memory_budget, len(self._queues))
        self._tight = False
        self._calls = CallMonitor()
        self._settled: queue.SimpleQueue[tuple[Channel, RabbitDelivery]] = queue.SimpleQueue()
        self._releases: queue.SimpleQueue[tuple[int, Callable[[], None]]] = queue.SimpleQueue()
        self._waker, self._woken_by = socket.socketpair()
        self._waker.setblocking(False)
        self._woken_by.setblocking(False)
        self._woken = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection.sock, selectors.EVENT_READ)
        self._selector.register(self._woken_by, selectors.EVENT_READ)
        now = self._monotonic()
        self._standby_at: float | None = now + settings.standby_delay
        answers = QUORUM_ANSWERS if topology.quorum else CLASSIC_ANSWERS
        self._probe_at = now
        self._check = ConsumerCheck(settings.check_seconds, now, answers)
        self.state = IngressState(at=now, since=now, connected=True)
        """What this subscription is doing: replaced once a second. Any thread may read it."""

    def serve(self, closing: threading.Event) -> None:
        """Consume and acknowledge until `closing` is set; then acknowledge the settled deliveries."""
        self._consume(
            [*sorted(self._settings.preferred_partitions), OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS]
        )
        while not closing.is_set():
            self.poll_once()
        self._acknowledge()

    def end(self) -> None:
        """Drop the deliveries and close the connection. The broker requeues what is not acknowledged."""
        for channel in self._channels.values():
            channel.open = False
            channel.inbox.drop(channel.partition)
        close_connection(self._connection)
        self._selector.close()
        self._waker.close()
        self._woken_by.close()

    def settled(self, channel: Channel, delivery: RabbitDelivery) -> None:
        """Queue a settled delivery for its reply and acknowledgement. Any thread."""
        self._settled.put((channel, delivery))
        if not self._woken:
            self._woken = True
            self.wake()

    def release(self, partition: int, released: Callable[[], None]) -> None:
        """Stop consuming a partition, and continue with the others. Any thread.

        Calls `released` on the consumer's thread once all deliveries of the partition are acknowledged:
        another worker may then consume it. An event that is held for a broken node delays that.
        """
        self._releases.put((partition, released))
        self.wake()

    def wake(self) -> None:
        """Wake the consumer's thread, if it waits. Any thread."""
        with suppress(OSError):  # The socket is closed, or full of wake-ups already.
            self._waker.send(b"!")

    def poll_once(self) -> None:
        """Read from the broker for TURN_SECONDS at most; send replies, acknowledgements and heartbeats."""
        if not waiting(self._connection):
            self._selector.select(self._seconds_to_wait())
        with suppress(BlockingIOError):
            self._woken_by.recv(4096)
        # Reset the flag before the queue is read: a delivery put there later wakes this thread again.
        self._woken = False
        # Reading stops once a lane has settled a delivery, whose caller waits for the reply, and at
        # `enough_at`, because the heartbeat is due.
        enough_at = self._monotonic() + TURN_SECONDS
        read_waiting(self._connection, lambda: self._woken or self._monotonic() >= enough_at)
        self._begin_releases()
        self._acknowledge()
        self._end_releases()
        now = self._monotonic()
        if now >= self._calls.next_check:
            for heartbeat in self._calls.due(now):
                self._replies.send_heartbeat(heartbeat)
        if now >= self._check.next_at:
            self._check.check(self._channels.values(), now)
        if now >= self._probe_at:
            self._probe_at = now + self._settings.check_seconds
            self._replies.probe()
        self.observe(now)
        if self._tight and not self._stopping.is_set():
            self._fit_windows()
        self._replies.keep_alive()
        self._connection.heartbeat_tick(rate=self._settings.heartbeat_rate)
        if self._standby_at is not None and self._monotonic() >= self._standby_at:
            self._standby_at = None
            if not self._stopping.is_set():
                self._consume(set(range(self._topology.partitions)) - self._settings.preferred_partitions)

    def observe(self, now: float) -> None:
        """Replace `state` if it is a second old. Declaring and consuming many queues takes long, too."""
        if now >= self.state.at + TURN_SECONDS:
            self.state = self._observed(now)

    def _observed(self, now: float) -> IngressState:
        channels = self._channels.values()
        oldest = [at for channel in channels if (at := channel.unacked.oldest_at) is not None]
        return replace(
            self.state,
            at=now,
            partitions=frozenset(each.partition for each in channels if each.partition >= 0),
            active=frozenset(each.partition for each in channels if each.active and each.partition >= 0),
            unacknowledged={channel.partition: n for channel in channels if (n := len(channel.unacked))},
            oldest_at=min(oldest, default=None),
            ready=self._check.ready_in(channels),
            alarm=self._replies.alarm,
        )

    def _seconds_to_wait(self) -> float:
        due_at = min(self._calls.next_check, self._standby_at or math.inf)
        return min(max(due_at - self._monotonic(), 0.0), TURN_SECONDS)

    def _consume(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            full = self._settings.prefetch
            self._open(partition, Window(self._budget, full, fixed_prefetch=self._topology.quorum))
            self.observe(self._monotonic())

    def _open(self, partition: int, window: Window) -> None:
        """Start consuming a partition on its own channel."""
        inbox = self._sink.inbox(partition)
        name = queue_name(self._topology.exchange, partition)
        channel = Channel(self, self._connection.channel(), partition, name, inbox, window)
        self._channels[channel.channel.channel_id] = channel
        channel.channel.auto_decode = False
        channel.channel.basic_qos(0, window.limits.prefetch, False)
        channel.channel.basic_consume(
            channel.queue,
            consumer_tag=self._consumer_tag(partition),
            callback=partial(self._deliver, channel),
        )

    def _begin_releases(self) -> None:
        """Cancel the consumers of the partitions that are to be released."""
        while not self._releases.empty():
            partition, released = self._releases.get_nowait()
            for channel in list(self._channels.values()):
                if channel.partition == partition and channel.released is None:
                    channel.channel.basic_cancel(self._consumer_tag(partition))
                    channel.released = released

    def _end_releases(self) -> None:
        """Close the channels of released partitions once all their deliveries are acknowledged."""
        for channel in list(self._channels.values()):
            if channel.released is not None and not len(channel.unacked):
                self._close(channel)
                channel.released()

    def _fit_windows(self) -> None:
        """Reopen the channels whose limits do not fit the sizes of their messages.

        Those that hold more than their share come first: that makes room for what the others refused.
        """
        channels = [channel for channel in self._channels.values() if channel.released is None]
        if any(channel.window.refuses for channel in channels):
            for channel in channels:
                if channel.window.is_greedy():
                    self._reopen(channel, channel.window.narrower())
        for channel in [each for each in self._channels.values() if each.released is None]:
            if channel.window.has_room():
                self._reopen(channel, channel.window.narrower())
            elif channel.window.may_widen():
                self._reopen(channel, Limits(self._settings.prefetch))
        windows = [channel.window for channel in self._channels.values()]
        self._tight = any(window.refuses or window.narrow for window in windows)

    def _reopen(self, channel: Channel, limits: Limits) -> None:
        """Return a channel's deliveries to the broker, and consume its partition with other limits.

        A lane still commits the events in flight; their receipts identify the redeliveries as duplicates.
        """
        if limits != channel.window.limits:
            text = "Queue %s: at most %d messages and %d bytes at once, for [worker] memory_budget"
            size = limits.size or self._settings.memory_budget
            LOG.info(text, channel.queue, limits.prefetch, size)
        self._acknowledge()
        self._close(channel)
        self._open(channel.partition, channel.window.reopen(limits))
        # Closing a channel reads all frames sent on it, which may outlast the heartbeat interval.
        self._connection.heartbeat_tick(rate=self._settings.heartbeat_rate)

    def _close(self, channel: Channel) -> None:
        channel.open = False
        del self._channels[channel.channel.channel_id]
        channel.inbox.drop(channel.partition)
        channel.channel.close()

    def _consumer_tag(self, partition: int) -> str:
        return f"{self._settings.name}.{queue_name(self._topology.exchange, partition)}"

    def _admit(self, channel_id: int, size: int) -> BodyAction:
        """Decide, before its body is read, whether to accept a delivery."""
        channel = self._channels.get(channel_id)
        # py-amqp reads the remaining frames of a connection or channel that is being closed.
        if channel is None or self._stopping.is_set():
            return BodyAction.SKIP
        # An event with too large a body is parked with the digest of its body.
        digest = size > MAX_BODY_BYTES
        if not channel.window.admit(0 if digest else size):
            self._tight = True
            return BodyAction.SKIP
        return BodyAction.DIGEST if digest else BodyAction.TAKE

    def _deliver(self, channel: Channel, message: Any) -> None:
        if self._stopping.is_set():
            return
        dead_lettered, expired = None, False
        if channel.partition == OtherQueue.DEAD_LETTERS:
            dead_lettered, expired = parse_x_death(message, self._queues)
        now = self._monotonic()
        delivery = RabbitDelivery(channel, message, self._bodies.digest, dead_lettered, now)
        channel.active = True
        channel.unacked.deliver(delivery.tag, now)
        if expired and is_call(delivery.body, delivery.compression):
            self._stats.expired_calls += 1
            self.settled(channel, delivery)
            return
        if timeout := _call_timeout(message):
            self._calls.begin(delivery, timeout, now)
        channel.inbox.put(delivery)

    def _acknowledge(self) -> None:
        """Send the replies of the settled deliveries, then acknowledge these, channel by channel."""
        settled: dict[Channel, None] = {}
        replies: list[Reply] = []
        while True:
            try:
                channel, delivery = self._settled.get_nowait()
            except queue.Empty:
                break
            self._calls.end(delivery)
            # The broker redelivers what was settled just before its channel was closed.
            if channel.open:
                channel.settle(delivery)
                settled[channel] = None
            if delivery.reply is not None:
                replies.append(delivery.reply)
        self._replies.send(replies)
        for channel in settled:
            channel.acknowledge()


def _call_timeout(message: Any) -> float | None:
    """Return the timeout of a call in seconds, from its expiration; None for a cast, which never expires."""
    expiration = message.properties.get("expiration", "")
    return int(expiration) / 1000 if expiration.isdecimal() else None


def parse_x_death(message: Any, queues: Container[str]) -> tuple[str, bool]:
    """Return the reason for dead-lettering in a message's x-death header, and whether the message expired.

    Any client may publish to that queue with any header: values that the broker does not write are left out.
    """
    headers = message.properties.get("application_headers")
    x_death = headers.get("x-death") if isinstance(headers, dict) else None
    last = x_death[0] if isinstance(x_death, list) and x_death else None
    if not isinstance(last, dict):
        return "unknown reason", False
    reason, name, count = last.get("reason"), last.get("queue"), last.get("count")
    known = isinstance(reason, str) and reason in REASONS
    where = name if isinstance(name, str) and name in queues else "an unknown queue"
    often = count if isinstance(count, int) else 1
    return f"{reason if known else 'unknown reason'} in {where}, {often} times", reason == EXPIRED
