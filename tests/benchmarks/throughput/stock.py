# SPDX-License-Identifier: Apache-2.0
"""Contestant `stock`: an oslo.messaging RPC server. An ORM transaction and a Notifier message an event.

Its executor has one thread: with more, the events of a node overtake each other.
"""

import json
import signal
import sys
import threading
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tests.benchmarks.throughput.ledger import OrmLedger
from tests.benchmarks.throughput.payloads import EVENT_TYPE, EXCHANGE, PUBLISHER_ID, TOPIC
from tests.delivery.oracle import engine_of

METHODS = ("instance_claim", "update_available_resource", "update_usage")


class Endpoint:
    """An endpoint of the scenarios' methods."""

    def __init__(self, ledger: OrmLedger, notifier: oslo_messaging.Notifier) -> None:
        self._ledger = ledger
        self._notifier = notifier
        for method in METHODS:
            setattr(self, method, self._handler(method))

    def _handler(self, method: str) -> Any:
        def handle(context: Any, **args: Any) -> None:
            payload = self._ledger.apply(method, args)
            if payload is not None:
                self._notifier.info(context, EVENT_TYPE, payload)

        return handle


def main() -> None:
    """Serve until SIGTERM: {"url", "exchange", "database"}."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    oslo_messaging.set_transport_defaults(EXCHANGE)
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(cfg.CONF, url=order["url"]),
        PUBLISHER_ID,
        driver="messagingv2",
        topics=[TOPIC],
    )
    server = oslo_messaging.get_rpc_server(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=order["url"]),
        oslo_messaging.Target(exchange=order["exchange"], topic="tracker", server="p0"),
        [Endpoint(OrmLedger(engine_of(order["database"])), notifier)],
    )
    server.start(override_pool_size=1)
    print("consuming", flush=True)
    stopping.wait()
    server.stop()
    server.wait()


if __name__ == "__main__":
    main()
