# SPDX-License-Identifier: Apache-2.0
"""A fixture for functional tests of other projects: a real worker in the test's process, without a broker.

    tracker = self.useFixture(testing.TrackerWorkerFixture(cfg.CONF))
    manager = ComputeManager(tracker.api)
    ...
    tracker.wait_for_notifications("compute_node.usage", node="compute1")

A cast that the worker cannot apply becomes a dead letter; its sender gets no error. The fixture fails the
test at clean-up, unless the test discards the letter::

    manager.cast_something_wrong()
    tracker.drain()
    (letter,) = tracker.dead_letters
    self.assertEqual("unknown_argument", letter["code"])
    tracker.discard_dead_letters()

Needs the extra `testing`. Works with both backends of oslo.service: this module selects the threading backend
unless the process has selected one before.
"""

import functools
import itertools
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fixtures
from oslo_service import backend
from oslo_service.backend.exceptions import BackendAlreadySelected

# Must run before the import of oslo.messaging, after which oslo.service's backend cannot change.
with suppress(BackendAlreadySelected):
    backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from tracker_worker.core.envelope import PING  # noqa: E402
from tracker_worker.core.records import PARKED  # noqa: E402
from tracker_worker.db import dead_letter_queries, dead_letters  # noqa: E402
from tracker_worker.db.dead_letter_queries import Wanted  # noqa: E402
from tracker_worker.db.engine import create_engine, sync_schema  # noqa: E402
from tracker_worker.db.tables import OUTBOX  # noqa: E402
from tracker_worker.domain.partitions import TOPIC, server_of  # noqa: E402
from tracker_worker.domain.settings import TrackerSettings  # noqa: E402
from tracker_worker.private_apis.oslo_messaging import process_on_listener_thread  # noqa: E402
from tracker_worker.rpcapi import EXMODS, TrackerAPI  # noqa: E402
from tracker_worker.worker.service import Worker  # noqa: E402
from tracker_worker.worker.settings import WorkerSettings  # noqa: E402

URL = "fake://"
NOTIFICATION_TOPIC = "versioned_notifications"
SECONDS = 20
MOST_LETTERS = 1000

Json = dict[str, Any]

_LETTER = ("id", "event_id", "code", "path", "message", "node", "method", "body")

_numbers = itertools.count(1)


class TrackerWorkerFixture(fixtures.Fixture):
    """Runs a worker on fake:// and a new SQLite database from setUp to cleanUp, on its own exchange.

    `conf` is cfg.CONF or a ConfigOpts of the test's own. Only oslo.messaging's options are read, none is
    changed, and `conf` need not have been called. `settings` are the options of [tracker].

    Attributes after setUp: `api`, the client; `transport`, `exchange` and `partitions`, for other clients.
    cleanUp waits until the worker has processed all casts. It raises RuntimeError if the worker did not, and
    AssertionError, with the code and path of each, if there are dead letters that the test did not discard.
    """

    partitions = 1

    def __init__(self, conf: Any, settings: TrackerSettings | None = None) -> None:
        super().__init__()
        self._conf = conf
        self._settings = settings or TrackerSettings()
        self._received: queue.Queue[Json] = queue.Queue()
        self._notifications: list[Json] = []

    def _setUp(self) -> None:
        self.exchange = f"tracker-testing-{next(_numbers)}"
        self.transport = oslo_messaging.get_rpc_transport(self._conf, url=URL, allowed_remote_exmods=EXMODS)
        self.api = TrackerAPI(
            self.transport, exchange=self.exchange, partitions=self.partitions, timeout=SECONDS
        )
        database = Path(self.useFixture(fixtures.TempDir()).path) / "tracker-worker.sqlite"
        database.write_bytes(_empty_database())
        self._engine = create_engine(f"sqlite:///{database}")
        self.addCleanup(self._engine.dispose)
        notifications = oslo_messaging.get_notification_transport(self._conf, url=URL)
        self._listen(notifications)
        settings = WorkerSettings(
            host="testing",
            tracker=self._settings,
            exchange=self.exchange,
            partitions=self.partitions,
            notification_exchange=self.exchange,
            notification_topic=NOTIFICATION_TOPIC,
            graceful_shutdown_timeout=SECONDS,
        )
        failed = threading.Event()
        self._worker = Worker(settings, self._engine, self.transport, notifications, failed.set)
        self.addCleanup(self._refuse_dead_letters)
        self.addCleanup(_stop, self._worker, failed)
        self._worker.start()

    def drain(self, timeout: float = SECONDS) -> None:
        """Return once all casts are applied or parked, and their notifications received.

        Raises TimeoutError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for partition in range(self.partitions):
            self._ping(partition, timeout)
        while not self._has_received_all():
            self._receive(deadline, f"Not all notifications came in {timeout} s")

    @property
    def dead_letters(self) -> list[Json]:
        """The dead letters that the test has not discarded, oldest first.

        Each is {id, event_id, code, path, message, node, method, body}. At most MOST_LETTERS.
        """
        with self._engine.connect() as connection:
            letters = dead_letter_queries.newest(connection, Wanted(PARKED), MOST_LETTERS)
        return [{name: getattr(letter, name) for name in _LETTER} for letter in letters]

    def discard_dead_letters(self) -> None:
        """Discard all dead letters, so that cleanUp does not fail because of them."""
        while letter_ids := [letter["id"] for letter in self.dead_letters]:
            with self._engine.begin() as connection:
                dead_letters.discard(connection, letter_ids)

    @property
    def notifications(self) -> list[Json]:
        """The notifications received until now: those of each priority in order.

        INFO and ERROR are two queues, without an order between them: sort a node's notifications by the
        `sequence` of their payloads. Each is {event_type, priority, publisher_id, message_id, payload};
        payloads are in Nova's versioned shape.
        """
        with suppress(queue.Empty):
            while True:
                self._notifications.append(self._received.get_nowait())
        return list(self._notifications)

    def wait_for_notifications(
        self, event_type: str, *, node: str | None = None, count: int = 1, timeout: float = SECONDS
    ) -> list[Json]:
        """Return all notifications of a type (and node), old ones included, once there are `count`.

        Raises TimeoutError, with the types of all notifications received, after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = [each for each in self.notifications if _is_of(each, event_type, node)]
            if len(found) >= count:
                return found
            self._receive(deadline, f"{len(found)} of {count} {event_type} came in {timeout} s")

    def _listen(self, transport: Any) -> None:
        target = oslo_messaging.Target(exchange=self.exchange, topic=NOTIFICATION_TOPIC)
        listener = oslo_messaging.get_notification_listener(
            transport, [target], [_Endpoint(self._received.put)]
        )
        process_on_listener_thread(listener)  # Keeps the order, and avoids the slow shutdown of the pool.
        self.addCleanup(listener.wait)
        self.addCleanup(listener.stop)
        listener.start()

    def _receive(self, deadline: float, otherwise: str) -> None:
        """Wait for the next notification. Raises TimeoutError, with the types received, at the deadline."""
        try:
            self._notifications.append(self._received.get(timeout=max(deadline - time.monotonic(), 0)))
        except queue.Empty:
            came = [each["event_type"] for each in self._notifications]
            raise TimeoutError(f"{otherwise}; all that came: {came}") from None

    def _has_received_all(self) -> bool:
        """Tell whether all committed notifications have been received."""
        with self._engine.connect() as connection:
            waiting = set(connection.scalars(sa.select(OUTBOX.c.message_id)))
        # Read after the outbox, so that it counts the notifications that have left the outbox meanwhile.
        published = self._worker.stats.published_notifications
        received = {each["message_id"] for each in self.notifications}
        return len(received) >= published and waiting <= received

    def _ping(self, partition: int, timeout: float) -> None:
        """Wait for the reply to a ping, which the worker sends after all earlier casts to the partition."""
        target = oslo_messaging.Target(exchange=self.exchange, topic=TOPIC, server=server_of(partition))
        client = oslo_messaging.get_rpc_client(self.transport, target, timeout=timeout)
        try:
            client.call({}, PING)
        except oslo_messaging.MessagingTimeout:
            raise TimeoutError(f"The worker has not finished what was cast in {timeout} s") from None

    def _refuse_dead_letters(self) -> None:
        letters = [
            f"{x['code']} at {x['path']}: {x['message']} ({x['method']}, node {x['node']})"
            for x in self.dead_letters
        ]
        if letters:
            raise AssertionError(
                "The worker could not apply what was sent, and has parked it as dead letters (a test that "
                f"expects them calls discard_dead_letters): {'; '.join(letters)}"
            )


class _Endpoint:
    """A notification endpoint of oslo.messaging. The listener's thread."""

    def __init__(self, receive: Callable[[Json], None]) -> None:
        self._receive = receive

    def info(self, *message: Any) -> None:
        self._take("INFO", *message)

    def error(self, *message: Any) -> None:
        self._take("ERROR", *message)

    def _take(
        self, priority: str, _context: Json, publisher_id: str, event_type: str, payload: Json, metadata: Json
    ) -> None:
        self._receive(
            {
                "event_type": event_type,
                "priority": priority,
                "publisher_id": publisher_id,
                "message_id": metadata["message_id"],
                "payload": payload,
            }
        )


@functools.cache
def _empty_database() -> bytes:
    """Return the file of a database without rows: migrations take longer than the rest of setUp."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "tracker-worker.sqlite"
        engine = create_engine(f"sqlite:///{file}")
        sync_schema(engine)
        engine.dispose()
        return file.read_bytes()


def _is_of(notification: Json, event_type: str, node: str | None) -> bool:
    if notification["event_type"] != event_type:
        return False
    return node is None or notification["payload"]["nova_object.data"]["node"] == node


def _stop(worker: Worker, failed: threading.Event) -> None:
    if not worker.stop() or failed.is_set():
        raise RuntimeError("The tracker worker did not finish what was cast to it: see its log")
