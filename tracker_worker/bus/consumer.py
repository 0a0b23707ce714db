# SPDX-License-Identifier: Apache-2.0
"""The consumer: takes commands from RabbitMQ and acknowledges them after their commit. Nobody else does.

One thread owns the connection: it reads, hands deliveries to the lanes, sends their replies and
acknowledgements, and keeps the heartbeat, whatever the lanes do. It never waits for a lane: what the broker
may send before an acknowledgement is what a lane has room for.
"""

import logging
import threading
from collections.abc import Callable

from msgspec import Struct
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event

from tracker_worker.bus import broker
from tracker_worker.bus.broker import CONNECTION_ERRORS, BrokerSettings
from tracker_worker.bus.delivery import Lanes
from tracker_worker.bus.replies import Replies
from tracker_worker.bus.subscription import Subscription, SubscriptionSettings
from tracker_worker.bus.topology import Topology, declare

LOG = logging.getLogger(__name__)

NewThread = Callable[[str, Callable[[], None]], threading.Thread]


class Counts(Struct):
    """What became of messages without a trace in the database, since the start."""

    expired_calls: int = 0
    lost_replies: int = 0


class Consumer:
    """Owns one thread, made by `new_thread`. Connects again for ever, with a growing pause."""

    def __init__(
        self,
        settings: BrokerSettings,
        topology: Topology,
        subscription: SubscriptionSettings,
        lanes: Lanes,
        new_thread: NewThread,
    ) -> None:
        self._settings = settings
        self._topology = topology
        self._subscription_settings = subscription
        self._lanes = lanes
        self._replies = Replies(settings)
        self._subscription: Subscription | None = None
        self._stopping = threading.Event()
        self._closing = threading.Event()
        self._expired_calls = 0
        self._thread = new_thread("consumer", self._run)

    @property
    def counts(self) -> Counts:
        """What was dropped on purpose so far. Any thread."""
        here = self._subscription.expired_calls if self._subscription is not None else 0
        return Counts(self._expired_calls + here, self._replies.lost)

    def start(self) -> None:
        """Start the thread. The broker may still be away."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more. What was taken is still answered and acknowledged.

        The queues stay this worker's until `close`: another one that got them now would overtake what is
        under way here.
        """
        self._stopping.set()

    def close(self, timeout: float) -> bool:
        """Send what the lanes have settled, then give everything else back to the broker.

        Tells whether that was done within `timeout` seconds.
        """
        self._stopping.set()
        self._closing.set()
        if self._subscription is not None:
            self._subscription.wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closing.is_set():
            subscription = self._subscribe()
            if subscription is None:
                break
            self._subscription = subscription
            LOG.info("Consuming from %s", self._settings.name)
            try:
                subscription.serve(self._closing)
            except CONNECTION_ERRORS as error:
                LOG.warning("The connection to %s is lost: %s", self._settings.name, error)
            finally:
                self._subscription = None
                self._expired_calls += subscription.expired_calls
                subscription.end()
            self._closing.wait(self._settings.retry_initial)
        self._replies.close()

    def _subscribe(self) -> Subscription | None:
        """Connect, declare and consume; None when the worker closes before that is possible.

        Raises TopologyMismatch.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(CONNECTION_ERRORS),
            wait=wait_exponential_jitter(
                initial=self._settings.retry_initial, max=self._settings.retry_max, jitter=1.0
            ),
            stop=stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            before_sleep=self._log_retry,
            retry_error_callback=lambda _: None,
        )
        subscribed: Subscription | None = retrying(self._try_to_subscribe)
        return subscribed

    def _try_to_subscribe(self) -> Subscription:
        connection = broker.connect(self._settings, "consumer")
        try:
            declare(connection, self._topology)
            return Subscription(
                connection,
                self._topology,
                self._subscription_settings,
                self._lanes,
                self._replies,
                self._stopping,
            )
        except BaseException:
            broker.close(connection)
            raise

    def _log_retry(self, retry_state: RetryCallState) -> None:
        error = retry_state.outcome and retry_state.outcome.exception()
        LOG.error("RabbitMQ at %s cannot be used, trying again: %s", self._settings.name, error)
