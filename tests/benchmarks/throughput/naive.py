# SPDX-License-Identifier: Apache-2.0
"""Contestant `naive`: a kombu consumer. An ORM transaction, a confirmed publish and an ack an event."""

import json
import signal
import sys
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from tests.benchmarks.throughput.ledger import OrmLedger
from tests.benchmarks.throughput.payloads import EXCHANGE, TOPIC, message_of
from tests.delivery.oracle import engine_of
from tracker_worker.core.envelope import seal


def main() -> None:
    """Consume until SIGTERM: {"url", "exchange", "database"}."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    order = json.loads(sys.stdin.readline())
    ledger = OrmLedger(engine_of(order["database"]))
    commands = Queue("tracker.p0", Exchange(order["exchange"], type="topic"), routing_key="tracker.p0")
    url = order["url"].replace("rabbit://", "amqp://").partition("?")[0]
    # On the consumer's connection the wait for a confirm would handle the next message, inside this one.
    confirming = Connection(url, transport_options={"confirm_publish": True})
    with Connection(url) as connection, confirming:
        producer = Producer(confirming.channel(), Exchange(EXCHANGE, type="topic"), f"{TOPIC}.info")

        def handle(message: Any) -> None:
            inner = json.loads(json.loads(message.body)["oslo.message"])
            payload = ledger.apply(inner["method"], inner["args"])
            if payload is not None:
                message_id, now = str(uuid.uuid4()), str(datetime.now(UTC).replace(tzinfo=None))
                body = seal(json.dumps(message_of(payload, message_id, now)))
                producer.publish(body, content_type="application/json", content_encoding="utf-8")
            message.ack()

        with Consumer(connection.channel(), [commands], on_message=handle):
            print("consuming", flush=True)
            while not stopping.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    connection.heartbeat_check()


if __name__ == "__main__":
    main()
