# SPDX-License-Identifier: Apache-2.0
"""The consumer: takes commands from RabbitMQ and acknowledges them after their commit. Nobody else does.

One thread owns the connection: it reads, hands deliveries to the lanes, sends their replies and
acknowledgements, and keeps the heartbeat, whatever the lanes do. It never waits for a lane: what the broker
may send before an acknowledgement is what a lane has room for.
"""

import logging
import threading
from collections.abc import Callable

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, connect
from tracker_worker.bus.rabbit.frames import BodyFilter
from tracker_worker.bus.rabbit.queues import Topology, declare
from tracker_worker.bus.rabbit.replies import Replies
from tracker_worker.bus.rabbit.subscription import Subscription, SubscriptionSettings
from tracker_worker.core.delivery import EventSink
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.stats import Stats

LOG = logging.getLogger(__name__)

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Consumer:
    """Owns one thread, made by `new_thread`. Reconnects without limit, with back-off.

    `monotonic` is a clock in seconds that is never set.
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
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._thread = new_thread("consumer", self._run)

    def start(self) -> None:
        """Start the thread. The broker may still be away."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more. What was taken is still answered and acknowledged.

        The queues stay this worker's until `close`: another one that got them now would overtake what is
        under way here.
        """
        self._stopping.set()

    def release(self, partition: int, released: Callable[[], None]) -> None:
        """Give a partition to another worker, once what was taken of it is settled (Subscription.release).

        Nothing happens while there is no connection: the partition is nobody's then. Any thread.
        """
        subscription = self._subscription
        if subscription is not None:
            subscription.release(partition, released)

    def close(self, timeout: float) -> bool:
        """Send what the lanes have settled, then give everything else back to the broker.

        Tells whether that was done within `timeout` seconds.
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
        # What was taken before a stop cannot be acknowledged any more once its connection is lost.
        while not self._stopping.is_set():
            started = self._monotonic()
            failure = None
            try:
                self._serve()
            except CONNECTION_ERRORS as error:
                failure = driver_text(error)
            if failure is not None:
                LOG.error(
                    "RabbitMQ at %s cannot be used, trying again in %.0f s: %s; see [DEFAULT] transport_url",
                    self._settings.name, pause, failure,
                )  # fmt: skip
            if self._monotonic() - started > self._settings.retry_max:
                pause = self._settings.retry_initial
            self._closing.wait(pause)
            pause = min(pause * 2, self._settings.retry_max)
        self._replies.close()

    def _serve(self) -> None:
        """Consume until the worker closes. Raises CONNECTION_ERRORS, TopologyMismatch."""
        bodies = BodyFilter()
        connection = connect(self._settings, "consumer", bodies=bodies)
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
            declare(connection, self._topology)
            LOG.info("Consuming from %s", self._settings.name)
            subscription.serve(self._closing)
        finally:
            self._subscription = None
            subscription.end()
