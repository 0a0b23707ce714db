# SPDX-License-Identifier: Apache-2.0
"""For the functional tests of other projects: a real worker in the test's own process, without a broker.

    tracker = self.useFixture(testing.TrackerWorkerFixture(cfg.CONF))
    manager = ComputeManager(tracker.api)
    ...
    tracker.wait_for_notifications("compute_node.usage", node="compute1")

Needs the extra `testing`. It works on either backend of oslo.service: the threading one is chosen here unless
the process has chosen before.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fixtures
from oslo_service import backend
from oslo_service.backend.exceptions import BackendAlreadySelected

# Before oslo.messaging is imported, which binds oslo.service to a backend for good.
with suppress(BackendAlreadySelected):
    backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402

from tracker_worker.db.engine import create_engine, sync_schema  # noqa: E402
from tracker_worker.domain.settings import TrackerSettings  # noqa: E402
from tracker_worker.rpcapi import EXMODS, TrackerAPI  # noqa: E402
from tracker_worker.worker.service import Worker, WorkerSettings  # noqa: E402

URL = "fake://"
TOPIC = "versioned_notifications"
SECONDS = 20

Json = dict[str, Any]

_numbers = itertools.count(1)


class TrackerWorkerFixture(fixtures.Fixture):
    """Runs a worker on fake:// and a new SQLite database from setUp to cleanUp, on an exchange of its own.

    `conf` is cfg.CONF, for oslo.messaging's options alone; nothing in it is changed, and it need not have
    been called. `settings` are what an operator sets in [tracker].

    After setUp: `api`, the client; `transport`, `exchange` and `partitions`, for clients of your own. cleanUp
    finishes what was cast, and raises RuntimeError when the worker could not.
    """

    partitions = 1

    def __init__(self, conf: Any, settings: TrackerSettings | None = None) -> None:
        super().__init__()
        self._conf = conf
        self._settings = settings or TrackerSettings()
        self._heard: queue.Queue[Json] = queue.Queue()
        self._notifications: list[Json] = []

    def _setUp(self) -> None:
        self.exchange = f"tracker-testing-{next(_numbers)}"
        self.transport = oslo_messaging.get_rpc_transport(self._conf, url=URL, allowed_remote_exmods=EXMODS)
        self.api = TrackerAPI(
            self.transport, exchange=self.exchange, partitions=self.partitions, timeout=SECONDS
        )
        directory = Path(self.useFixture(fixtures.TempDir()).path)
        engine = create_engine(f"sqlite:///{directory / 'tracker-worker.sqlite'}")
        self.addCleanup(engine.dispose)
        sync_schema(engine)
        notifications = oslo_messaging.get_notification_transport(self._conf, url=URL)
        self._listen(notifications)
        settings = WorkerSettings(
            host="testing",
            tracker=self._settings,
            exchange=self.exchange,
            partitions=self.partitions,
            notification_exchange=self.exchange,
            notification_topic=TOPIC,
            graceful_shutdown_timeout=SECONDS,
        )
        failed = threading.Event()
        worker = Worker(settings, engine, self.transport, notifications, failed.set)
        self.addCleanup(_stop, worker, failed)
        worker.start()

    @property
    def notifications(self) -> list[Json]:
        """What the worker has published until now, in order.

        Each is {event_type, priority, publisher_id, message_id, payload}; payloads are in Nova's versioned
        shape.
        """
        with suppress(queue.Empty):
            while True:
                self._notifications.append(self._heard.get_nowait())
        return list(self._notifications)

    def wait_for_notifications(
        self, event_type: str, *, node: str | None = None, count: int = 1, timeout: float = SECONDS
    ) -> list[Json]:
        """Return all notifications of a type (and node) as soon as there are `count`, the old ones included.

        Raises TimeoutError, with what came instead, after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = [each for each in self.notifications if _is_of(each, event_type, node)]
            if len(found) >= count:
                return found
            try:
                self._notifications.append(self._heard.get(timeout=max(deadline - time.monotonic(), 0)))
            except queue.Empty:
                came = [each["event_type"] for each in self._notifications]
                raise TimeoutError(
                    f"{len(found)} of {count} {event_type} came in {timeout} s; all that came: {came}"
                ) from None

    def _listen(self, transport: Any) -> None:
        target = oslo_messaging.Target(exchange=self.exchange, topic=TOPIC)
        listener = oslo_messaging.get_notification_listener(transport, [target], [_Endpoint(self._heard.put)])
        # On the listener's own thread: in order, and a pool of threads would take a second to shut down.
        listener._on_incoming = listener._process_incoming
        self.addCleanup(listener.wait)
        self.addCleanup(listener.stop)
        listener.start()


class _Endpoint:
    """Hears notifications; its methods are oslo.messaging's. The listener's thread."""

    def __init__(self, hear: Callable[[Json], None]) -> None:
        self._hear = hear

    def info(self, *message: Any) -> None:
        self._take("INFO", *message)

    def error(self, *message: Any) -> None:
        self._take("ERROR", *message)

    def _take(
        self, priority: str, _context: Json, publisher_id: str, event_type: str, payload: Json, metadata: Json
    ) -> None:
        self._hear(
            {
                "event_type": event_type,
                "priority": priority,
                "publisher_id": publisher_id,
                "message_id": metadata["message_id"],
                "payload": payload,
            }
        )


def _is_of(notification: Json, event_type: str, node: str | None) -> bool:
    if notification["event_type"] != event_type:
        return False
    return node is None or notification["payload"]["nova_object.data"]["node"] == node


def _stop(worker: Worker, failed: threading.Event) -> None:
    if not worker.stop() or failed.is_set():
        raise RuntimeError("The tracker worker did not finish what was cast to it: see its log")
