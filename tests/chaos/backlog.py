# SPDX-License-Identifier: Apache-2.0
"""A trial whose casts wait in the queues before the worker starts.

They are published directly, in oslo.messaging's format: ten times as fast as by its client.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

import amqp
import sqlalchemy as sa
from kombu.connection import Connection

from tests.chaos.trial import Trial
from tests.delivery import oracle
from tests.delivery.load import Json, command, schedule, server_of
from tests.delivery.oracle import Verdict, WorkerDatabase

WINDOW = 1000
"""Maximum number of messages without a confirm."""
SECONDS = 60


class Backlog(Trial):
    """A trial without a client: `publish` casts. The first worker has declared the queues and is stopped.

    `casts` may be a mapping from node to casts, for an uneven load, which `publish_events` casts.
    """

    def __init__(
        self, broker_url: str, database_url: str, casts: int | Mapping[str, int], **how: Any
    ) -> None:
        even = casts if isinstance(casts, int) else 0
        super().__init__(broker_url, database_url, even, **how)
        self.casts = casts if isinstance(casts, int) else sum(casts.values())
        self.due = casts
        self.ledger = Uneven(self.engine, casts)

    def __enter__(self) -> Self:
        try:
            self.start()
            self.stop_worker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def publish(self, number: int) -> None:
        """Cast so many more, and return once the broker has them."""
        self.publish_events(
            (node, n)
            for which, node, n in schedule(self.casts, 0, 1)
            if self.allowed <= which < self.allowed + number
        )
        self.allowed += number

    def publish_events(self, events: Iterable[tuple[str, int]], server: str | None = None) -> None:
        """Cast events, by node and number, to the queues of their nodes, or all to one server's."""
        self._started = self._started or time.monotonic()
        with oracle.connected(self.broker.url) as connection:
            publisher = Publisher(connection, self.broker.exchange)
            for node, n in events:
                publisher.send(server or server_of(node), body_of(*command(node, n)))
            publisher.wait()

    def finish_casting(self) -> dict[str, Any]:
        """Cast the rest, of an even load."""
        if isinstance(self.due, int):
            self.publish(self.casts - self.allowed)
        return {"again": 0}


class Uneven(WorkerDatabase):
    """Judges by the number of casts of each node."""

    def __init__(self, engine: sa.Engine, due: int | Mapping[str, int]) -> None:
        super().__init__(engine)
        self._due = due

    def verdict(self, casts: int | Mapping[str, int], told: Iterable[Json]) -> Verdict:
        return super().verdict(self._due, told)


def body_of(method: str, arguments: Json) -> bytes:
    """The body of a cast."""
    inner = {"method": method, "args": arguments, "version": "1.0", "_context_request_id": "req-1"}
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()


class Publisher:
    """Publishes persistent messages on a channel of its own. A message that no queue takes is an error."""

    def __init__(self, connection: Connection, exchange: str) -> None:
        self._connection = connection
        self._exchange = exchange
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_return"].add(self._on_return)
        self._published = self._confirmed = 0

    def send(self, server: str, body: bytes) -> None:
        """Publish one message; `wait` tells when the broker has it."""
        properties = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
        message = amqp.Message(body, **properties)
        self._channel.basic_publish(message, self._exchange, f"tracker.{server}", mandatory=True)
        self._published += 1
        self._wait_for(self._published - WINDOW)

    def wait(self) -> None:
        """Wait until all is confirmed."""
        self._wait_for(self._published)

    def _wait_for(self, confirmed: int) -> None:
        while self._confirmed < confirmed:
            self._connection.drain_events(timeout=SECONDS)

    def _on_ack(self, tag: int, _multiple: bool) -> None:
        self._confirmed = max(self._confirmed, tag)

    def _on_return(self, _error: Any, _exchange: str, key: str, _message: Any) -> None:
        raise AssertionError(f"nobody takes what is sent to {key}")
