# SPDX-License-Identifier: Apache-2.0
"""Consumers on a real broker, with lanes that only hold, and what their tests do with deliveries."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
from kombu.connection import Connection

from tests.integration.rabbit import PARTITIONS, SECONDS, TOPOLOGY, HoldingInboxes, settings_of
from tracker_worker.bus.rabbit.consumer import Consumer
from tracker_worker.bus.rabbit.queues import Topology
from tracker_worker.bus.rabbit.subscription import SubscriptionSettings
from tracker_worker.core.stats import Stats
from tracker_worker.worker.threads import worker_thread

ALL = frozenset(range(PARTITIONS))
DONE = {"outcome": "applied"}


class Running:
    """A consumer with lanes that hold."""

    def __init__(
        self,
        url: str,
        *,
        quorum: bool = False,
        name: str = "one",
        first: frozenset[int] = ALL,
        standby_delay: float = 3600.0,
        prefetch: int = 10,
        memory_budget: int = 2**30,
        check_seconds: float = 3600.0,
        **options: Any,
    ) -> None:
        broker = options.pop("broker", None) or settings_of(url, rabbit_quorum_queue=quorum, **options)
        self.lanes = HoldingInboxes()
        self.failed = threading.Event()
        self.stats = Stats()
        self.consumer = Consumer(
            broker,
            Topology(TOPOLOGY.exchange, PARTITIONS, quorum),
            SubscriptionSettings(
                name, first, standby_delay, prefetch, memory_budget, broker.heartbeat_rate, check_seconds
            ),
            self.lanes,
            partial(worker_thread, failed=self.failed.set),
            time.monotonic,
            self.stats,
        )
        self.consumer.start()

    def close(self) -> None:
        assert self.consumer.close(SECONDS)


Start = Callable[..., Running]


@contextmanager
def starting(url: str, **usually: Any) -> Iterator[Start]:
    """Starts consumers with these arguments, and others in a call, and ends them."""
    started: list[Running] = []

    def start(**how: Any) -> Running:
        started.append(Running(url, **(usually | how)))
        return started[-1]

    try:
        yield start
    finally:
        for one in started:
            one.close()


def ids_of(deliveries: Iterable[Any]) -> list[str]:
    return [
        msgspec.json.decode(msgspec.json.decode(d.body)["oslo.message"])["args"]["event_id"]
        for d in deliveries
    ]


def settle(deliveries: Iterable[Any]) -> None:
    for delivery in deliveries:
        delivery.settle(DONE)


def declared(connection: Connection) -> bool:
    """Whether everything stands: it is consumed from then on."""
    try:
        with connection.channel() as channel:
            return bool(channel.queue_declare(TOPOLOGY.partition(0), passive=True).consumer_count)
    except connection.channel_errors:
        return False
