# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ, and a tracker-worker on SQLite for each process of tests, on an exchange of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

from tests.delivery.processes import Broker, Processes, TrackerWorker
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine, sync_schema

PARTITIONS = 1
"""One: the reply to a question about any node follows all casts before it."""


class NoBroker(Exception):
    """RabbitMQ is not installed."""


@contextmanager
def running(count: int) -> Iterator[Path]:
    """Run so many workers, and yield a directory with a file for each: what its clients need.

    Raises NoBroker.
    """
    if not RabbitMQ.program():
        raise NoBroker(f"{RabbitMQ.package} is not installed: `sudo make test-packages` brings it")
    with RabbitMQ() as rabbitmq, Processes() as processes:
        rabbitmq.start()
        url = rabbitmq.url(rabbitmq.new_vhost())
        for number in range(count):
            _start(processes, Broker(url, f"nova-{number}"))
        yield processes.directory


def _start(processes: Processes, broker: Broker) -> None:
    name = broker.exchange
    database = f"sqlite:///{processes.directory / name}.sqlite"
    engine = create_engine(database)
    sync_schema(engine)
    engine.dispose()
    TrackerWorker(processes, broker, database, {"bus": {"partitions": PARTITIONS}}, name).start()
    daemon = {
        "transport_url": broker.client_url,
        "exchange": name,
        "partitions": PARTITIONS,
        "database": database,
    }
    (processes.directory / name).with_suffix(".json").write_text(json.dumps(daemon))
