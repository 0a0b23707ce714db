# SPDX-License-Identifier: Apache-2.0
"""One worker's process: its parts are real, and each turn of one of its threads is a step of the world."""

import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import sqlalchemy as sa

from tests.simulation import faults
from tests.simulation.bus import PREFETCH, Connection
from tests.simulation.clients import PARTITIONS
from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS
from tracker_worker.bus.rabbit.queues import Topology
from tracker_worker.bus.rabbit.replies import Replies
from tracker_worker.bus.rabbit.subscription import Subscription, SubscriptionSettings
from tracker_worker.core.batch import BatchContext
from tracker_worker.core.delivery import BodyDigest, Delivery, OtherQueue
from tracker_worker.core.stats import LaneStats, Stats
from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.dispatcher import Dispatcher
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.relay import RETRIED, Relay
from tracker_worker.worker.settings import LaneSettings, RelaySettings, Retention

TOPOLOGY = Topology("tracker", PARTITIONS, quorum=False)
RECEIPT_DAYS = 7
LEASE_SECONDS = 10.0
BOUNDS = LaneSettings(
    batch_size=5,
    prefetch=PREFETCH,
    retry_initial=0.0,
    retry_max=0.0,
    min_uptime=0.02,
    recheck_seconds=0.02,
)
"""Batches after which a worker counts as warm: the world's clocks hardly advance while it works."""


class Seen:
    """A delivery to the lane that calls the world when its body is read and when it is settled."""

    def __init__(self, process: "Process", delivery: Delivery) -> None:
        self._process = process
        self._delivery = delivery
        self._read = False
        self.compression = delivery.compression
        self.partition = delivery.partition
        self.redelivered = delivery.redelivered
        self.received_at = delivery.received_at
        self.dead_lettered = delivery.dead_lettered

    @property
    def live(self) -> bool:
        return self._delivery.live

    @property
    def body(self) -> bytes | BodyDigest:
        if not self._read:
            self._read = True
            self._process.point(faults.BEFORE_DECODE)
        return self._delivery.body

    def settle(self, answer: Any) -> None:
        self._process.point(faults.AFTER_COMMIT)
        self._process.held.discard(self)
        self._delivery.settle(answer)

    @property
    def content(self) -> bytes | BodyDigest:
        """The body, without a call of the world."""
        return self._delivery.body


class Process:
    """A running worker: `hooks` is the world's side of it, which may end it at any point.

    Also what its subscription knows as lanes and as replies, and its relay as the publisher.
    """

    def __init__(self, hooks: Any, engine: sa.Engine, number: int) -> None:
        self.hooks = hooks
        self.stopping = threading.Event()
        context = BatchContext(
            tracker=TrackerSettings(capacity_check="capacity"),
            partitions=PARTITIONS,
            publisher_id="tracker-worker:simulated",
            notify=True,
            clock=hooks.clock,
            new_id=hooks.new_id,
        )
        self.unit_of_work = UnitOfWork(engine)
        queues = [OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS, *range(PARTITIONS)]
        self.lane = Lane(
            "lane-0",
            queues,
            self.unit_of_work,
            context,
            BOUNDS,
            hooks.monotonic,
            lambda: None,
            LaneStats(),
        )
        self.dispatcher = Dispatcher([self.lane], hooks.monotonic, lambda: None)
        settings = RelaySettings(window=6, lease_seconds=LEASE_SECONDS, retry_max=0.0)
        owner = str(uuid.UUID(int=number))
        self.relay = Relay(engine, self, settings, owner, hooks.clock, hooks.monotonic, lambda: None, Stats())
        retention = Retention(receipt_days=RECEIPT_DAYS, newest_receipts=hooks.newest_receipts)
        self.purge = Purge(engine, retention, lambda: None)
        self.subscription: Subscription | None = None
        self.connection: Connection | None = None
        self._taken: list[Any] = []
        self.held: set[Seen] = set()
        """The deliveries that may be recorded as in flight."""

    def point(self, name: str) -> None:
        """A point at which the world may crash this worker or let the other one run."""
        self.hooks.point(name)

    # The consumer's thread.

    def connect(self, connection: Connection) -> None:
        """Consume all partitions."""
        settings = SubscriptionSettings("simulated", frozenset(range(PARTITIONS)), 0.0, PREFETCH)
        self.connection = connection
        self.held.clear()
        self.subscription = Subscription(
            connection,
            connection.bodies,
            TOPOLOGY,
            settings,
            self,
            cast(Replies, self),
            self.stopping,
            self.hooks.monotonic,
            Stats(),
        )
        self.subscription._consume(
            [*sorted(settings.preferred_partitions), OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS]
        )

    def turn(self) -> None:
        """Read deliveries, acknowledge settled ones, notice a lost connection."""
        subscription, connection = self.subscription, self.connection
        if subscription is None or connection is None:
            return
        connection.tick()
        try:
            subscription.poll_once()
        except CONNECTION_ERRORS:
            self.disconnect()
        else:
            self.point(faults.AFTER_ACKNOWLEDGEMENT)

    def disconnect(self) -> None:
        """Do what the consumer does when its connection is lost."""
        subscription, self.subscription, self.connection = self.subscription, None, None
        if subscription is not None:
            subscription.end()

    def inbox(self, _partition: int) -> "Process":
        return self

    def put(self, delivery: Delivery) -> bool:
        if self.lane.inbox._queues[delivery.partition].full():
            # It would wait for the lane, which is on this thread here.
            raise faults.Violation(f"partition {delivery.partition} is sent more than prefetch")
        self._taken.append(delivery)
        seen = Seen(self, delivery)
        self.held.add(seen)
        return self.dispatcher.inbox(seen.partition).put(seen)

    def drop(self, partition: int) -> None:
        self.dispatcher.inbox(partition).drop(partition)

    def send(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            self.hooks.replied(reply)

    alarm: str | None = None

    def probe(self) -> None:
        """This broker has no alarms."""

    def keep_alive(self) -> None:
        """Nothing to keep alive: replies and notifications have no connection here."""

    # The threads of relay and purge.

    def relay_step(self) -> None:
        """Publish a window, or remove what is published."""
        try:
            if not self.relay.publish_window():
                self.relay.remove_published()
        except RETRIED:
            pass

    def publish(self, rows: Sequence[Any]) -> int:
        taken: int = self.hooks.publish(rows)
        return taken

    def purge_step(self) -> None:
        """Purge once, as the purge does every hour."""
        with suppress(*DATABASE_ERRORS):
            self.purge.run_once()

    def close(self) -> None:
        """Nothing to close: the publisher has no connection here."""

    # The end.

    def drain(self) -> None:
        """Do what Worker.stop does, one thread after the other."""
        self.stopping.set()
        self.lane.close()
        self.lane.run()
        self.point(faults.DURING_DRAIN)
        if self.subscription is not None:
            self.subscription._acknowledge()
        held = self._held_back()
        self.hooks.drained(
            sum(d.tag in d._channel.channel.unacknowledged and id(d) not in held for d in self._taken)
        )
        self.disconnect()
        self.relay.loop.stop()
        self.relay.loop.run()

    def _held_back(self) -> set[int]:
        """The deliveries that are held until their node is rebuilt."""
        held = self.lane.broken.held._events.values()
        seen: list[Any] = [event.delivery for events in held for event in events]
        return {id(each._delivery) for each in seen}

    def discard(self) -> None:
        """Release what the crashed process held: its connections to broker and database."""
        self.disconnect()
        self.unit_of_work.close()
        self.relay._database.close()
