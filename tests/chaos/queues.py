# SPDX-License-Identifier: Apache-2.0
"""What the broker has of a trial, asked of the queues themselves, for its statistics are a second old.

And how fast it gives a worker up.
"""

from tests.delivery.load import PARTITIONS
from tests.delivery.oracle import connected
from tests.servers.rabbitmq import RabbitMQ

HEARTBEAT = 2
IMPATIENT = {"oslo_messaging_rabbit": {"heartbeat_timeout_threshold": HEARTBEAT, "rabbit_interval_max": 1}}
"""Options of a worker that gives up in seconds a broker that says nothing; so does the broker the worker."""
NOTICES = 4 * HEARTBEAT
"""Seconds within which both do."""
QUEUES = [f"tracker.p{number}" for number in range(PARTITIONS)]


def ready(url: str) -> int:
    """The commands that no worker has."""
    return sum(ready_by_queue(url).values())


def ready_by_queue(url: str) -> dict[str, int]:
    """The commands of each partition that no worker has."""
    return {name: count for name, (count, _) in zip(QUEUES, _declared(url), strict=True)}


def consumers(url: str) -> int:
    """How many consumers the queues of the partitions have in all."""
    return sum(count for _, count in _declared(url))


def held(rabbitmq: RabbitMQ, url: str) -> int:
    """The commands that are not acknowledged, whoever has them. Takes a second."""
    vhost = url.rpartition("/")[2]
    said = rabbitmq.ctl("-q", "list_queues", "-p", vhost, "--no-table-headers", "name", "messages")
    counts = dict(line.split("\t") for line in said.splitlines())
    return sum(int(counts[name]) for name in QUEUES)


def _declared(url: str) -> list[tuple[int, int]]:
    with connected(url) as connection, connection.channel() as channel:
        found = [channel.queue_declare(name, passive=True) for name in QUEUES]
    return [(queue.message_count, queue.consumer_count) for queue in found]
