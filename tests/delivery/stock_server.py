# SPDX-License-Identifier: Apache-2.0
"""A process with a stock oslo.messaging RPC server. Each event is one small SQL transaction of its endpoint.

Reads one line of JSON from its standard input; says `consuming` on its standard output when it does.
"""

import json
import sys
import threading
from typing import Any

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg

from tests.delivery.oracle import APPLIED, engine_of

METHODS = (
    "abort_instance_claim",
    "build_failed",
    "instance_claim",
    "update_available_resource",
    "update_usage",
)


class Recorder:
    """An endpoint of the load's methods. Any thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        for method in METHODS:
            setattr(self, method, self._record)

    def _record(self, _context: Any, event_id: str, **_arguments: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.insert(APPLIED), {"event_id": event_id})


def main() -> None:
    """Serve until killed: {"url", "exchange", "server", "database", "threads"}."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    engine = engine_of(order["database"], pool_size=order["threads"])
    server = oslo_messaging.get_rpc_server(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=order["url"]),
        oslo_messaging.Target(exchange=order["exchange"], topic="tracker", server=order["server"]),
        [Recorder(engine)],
    )
    server.start(override_pool_size=order["threads"])
    print("consuming", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
