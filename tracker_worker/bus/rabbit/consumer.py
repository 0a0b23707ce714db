# SPDX-License-Identifier: Apache-2.0
"""Consumes commands from RabbitMQ and acknowledges them after their commit.

One thread owns the connection: it alone reads deliveries into the lanes' inboxes, sends replies and
acknowledgements, and keeps the heartbeat even while all lanes are busy. It never waits for a lane, because
the prefetch limits the unacknowledged messages to what a lane has room for.
"""

import logging
import threading
from collections.abc import Callable

from msgspec.structs import replace

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, CONSUMER, BrokerSettings, connect
from tracker_worker.bus.rabbit.consumer_check import ConsumerLost
from tracker_worker.bus.rabbit.frames import BodyFilter
from tracker_worker.bus.rabbit.queues import Topology, declare
from tracker_worker.bus.rabbit.replies import Replies
from tracker_worker.bus.rabbit.subscription import TURN_SECONDS, Subscription, SubscriptionSettings
from tracker_worker.bus.state import IngressState
from tracker_worker.core.delivery import EventSink
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.stats import Stats

LOG = logging.getLogger(__name__)

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Consumer:
    """Owns one thread, made by `new_thread`. Reconnects without limit, with back-off.

    `monotonic` is a clock in seconds that is never set back.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        topology: Topology,
        subscription: SubscriptionSettings,
        sink: EventSink,
        new_thread: NewThread,
        monotonic: Callable[[], float],
        stats: Stats,
    ) -> None:
        self._settings = settings
        self._topology = topology
        self._subscription_settings = subscription
        self._sink = sink
        self._stats = stats
        self._monotonic = monotonic
        self._replies = Replies(settings, monotonic, stats)
        self._subscription: Subscription | None = None
        now = monotonic()
        self._disconnected = IngressState(at=now, since=now, connected=False)
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._thread = new_thread("consumer", self._run)

    def start(self) -> None:
        """Start the thread. The broker need not be reachable yet."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no more deliveries. Those accepted before are still answered and acknowledged.

        This worker remains the active consumer of its queues until `close`: another worker could process
        later events before those in flight here.
        """
        self._stopping.set()

    @property
    def state(self) -> IngressState:
        """What the consumer is doing, a second ago at most. Any thread."""
        subscription = self._subscription
        return subscription.state if subscription is not None else self._disconnected

    def release(self, partition: int, released: Callable[[], None]) -> None:
        """Release a partition to another worker once its deliveries are settled (Subscription.release).

        Does nothing while there is no connection: the worker consumes no partition then. Any thread.
        """
        subscription = self._subscription
        if subscription is not None:
            subscription.release(partition, released)

    def close(self, timeout: float) -> bool:
        """Send the replies and acknowledgements of settled deliveries, then close the connection.

        The broker requeues all other deliveries. Returns False if this takes longer than `timeout` seconds.
        """
        self._stopping.set()
        self._closing.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = self._settings.retry_initial
        # No reconnect after a stop: the deliveries of the lost connection can no longer be acknowledged.
        while not self._stopping.is_set():
            started, opened = self._monotonic(), self._stats.connections
            failure = None
            try:
                self._serve()
            except CONNECTION_ERRORS as error:
                failure = _failure_text(error)
            if failure is not None:
                LOG.error(
                    "RabbitMQ at %s cannot be used, trying again in %.0f s: %s",
                    self._settings.name, pause, failure,
                )  # fmt: skip
            if self._monotonic() - started > self._settings.retry_max:
                pause = self._settings.retry_initial
            now = self._monotonic()
            # Failed attempts to connect do not restart the time without a connection.
            since = now if self._stats.connections > opened else self._disconnected.since
            self._disconnected = IngressState(at=now, since=since, connected=False)
            self._wait(now + pause)
            pause = min(pause * 2, self._settings.retry_max)
        self._replies.close()

    def _wait(self, until: float) -> None:
        while (seconds := until - self._monotonic()) > 0 and not self._closing.wait(
            min(seconds, TURN_SECONDS)
        ):
            self._disconnected = replace(self._disconnected, at=self._monotonic())

    def _serve(self) -> None:
        """Consume until the worker closes. Raises CONNECTION_ERRORS, TopologyMismatch."""
        bodies = BodyFilter()
        connection = connect(self._settings, CONSUMER, bodies=bodies)
        subscription = Subscription(
            connection,
            bodies,
            self._topology,
            self._subscription_settings,
            self._sink,
            self._replies,
            self._stopping,
            self._monotonic,
            self._stats,
        )
        self._subscription = subscription
        try:
            declare(connection, self._topology, lambda: subscription.observe(self._monotonic()))
            self._stats.connections += 1
            LOG.info("Consuming from %s", self._settings.name)
            subscription.serve(self._closing)
        finally:
            self._subscription = None
            subscription.end()


def _failure_text(error: Exception) -> str:
    """Return why a connection has ended, and where to look."""
    place = (
        "'tracker-worker-manage queues list'"
        if isinstance(error, ConsumerLost)
        else "[DEFAULT] transport_url"
    )
    return f"{driver_text(error)}; see {place}"
