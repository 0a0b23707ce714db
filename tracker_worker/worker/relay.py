# SPDX-License-Identifier: Apache-2.0
"""The relay: publishes the outbox in id order and forgets a notification once the bus has it."""

import logging
import threading

import sqlalchemy as sa
from msgspec import Struct
from oslo_messaging.exceptions import MessagingException
from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential_jitter
from tenacity.nap import sleep_using_event

from tracker_worker.bus.publisher import Publisher
from tracker_worker.db import outbox
from tracker_worker.worker.lane import TRANSIENT

LOG = logging.getLogger(__name__)


class RelaySettings(Struct, frozen=True):
    """Rows published before they are removed, seconds between looks when no lane of this process called."""

    window: int = 200
    poll_interval: float = 1.0
    retry_max: float = 5.0


class Relay:
    """Owns one thread. A crash between publishing and removing repeats rows, never skips one.

    `published` counts the notifications that the bus has taken, repetitions included.
    """

    def __init__(self, engine: sa.Engine, publisher: Publisher, settings: RelaySettings) -> None:
        self._engine = engine
        self._publisher = publisher
        self._settings = settings
        self._work = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.published = 0

    def start(self) -> None:
        """Start the thread; it begins with what an earlier process left."""
        self._work.set()
        self._thread.start()

    def notify(self) -> None:
        """Tell that a lane has committed. Any thread."""
        self._work.set()

    def drain(self, timeout: float) -> bool:
        """Publish what is committed within `timeout` seconds; tells whether all was published."""
        self._closing.set()
        self._work.set()
        self._thread.join(timeout)
        drained = not self._thread.is_alive()
        self._abandon.set()
        return drained

    def step(self) -> bool:
        """Publish one window; False when the outbox was empty."""
        with self._engine.connect() as connection:
            with connection.begin():
                rows = outbox.window(connection, self._settings.window)
            if not rows:
                return False
            self._publisher.publish(rows)
            self.published += len(rows)
            with connection.begin():
                outbox.remove_through(connection, rows[-1].id)
        return True

    def _run(self) -> None:
        while not self._abandon.is_set():
            self._work.wait(self._settings.poll_interval)
            self._work.clear()
            closing = self._closing.is_set()
            while not self._abandon.is_set() and self._step_until_it_works():
                pass
            if closing:
                return

    def _step_until_it_works(self) -> bool:
        """Broker or database away: try again until they are back, notifications wait in the outbox."""
        retrying = Retrying(
            retry=retry_if_exception_type((*TRANSIENT, MessagingException, OSError)),
            wait=wait_exponential_jitter(0.05, self._settings.retry_max),
            stop=stop_when_event_set(self._abandon),
            sleep=sleep_using_event(self._abandon),
            retry_error_callback=lambda _: False,
        )
        return retrying(self.step)
