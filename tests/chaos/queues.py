# SPDX-License-Identifier: Apache-2.0
"""The queues of a trial, asked directly, because the broker's statistics are a second old.

And options for short timeouts between broker and worker.
"""

from tests.delivery.load import PARTITIONS
from tests.delivery.oracle import connected
from tests.delivery.processes import Options
from tests.servers.rabbitmq import RabbitMQ

HEARTBEAT = 2
IMPATIENT: Options = {
    "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": HEARTBEAT, "rabbit_interval_max": 1}
}
"""Options of a worker: it and the broker drop each other after some seconds of silence."""
NOTICES = 20
"""Seconds within which both do so, on a busy machine, too; by default they take two minutes."""
QUEUES = [f"tracker.p{number}" for number in range(PARTITIONS)]


def ready(url: str) -> int:
    """The number of commands that are not delivered."""
    return sum(ready_by_queue(url).values())


def ready_by_queue(url: str) -> dict[str, int]:
    """The number of commands of each partition that are not delivered."""
    return {name: count for name, (count, _) in zip(QUEUES, _declared(url), strict=True)}


def consumers(url: str) -> int:
    """How many consumers the queues of the partitions have in all."""
    return sum(count for _, count in _declared(url))


def held(rabbitmq: RabbitMQ, url: str) -> int:
    """The number of commands that are not acknowledged by any worker. Takes a second."""
    vhost = url.rpartition("/")[2]
    said = rabbitmq.ctl("-q", "list_queues", "-p", vhost, "--no-table-headers", "name", "messages")
    counts = dict(line.split("\t") for line in said.splitlines())
    return sum(int(counts[name]) for name in QUEUES)


def _declared(url: str) -> list[tuple[int, int]]:
    with connected(url) as connection, connection.channel() as channel:
        found = [channel.queue_declare(name, passive=True) for name in QUEUES]
    return [(queue.message_count, queue.consumer_count) for queue in found]
