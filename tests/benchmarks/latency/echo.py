# SPDX-License-Identifier: Apache-2.0
"""A process with a stock oslo.messaging RPC server of one method, which does nothing."""

import json
import sys
import threading
from typing import Any

import oslo_messaging
from oslo_config import cfg

SERVER = "empty"


class Endpoint:
    """Its endpoint."""

    def empty(self, _context: Any) -> None:
        """Do nothing."""


def target(**more: str) -> oslo_messaging.Target:
    """Where it listens."""
    return oslo_messaging.Target(exchange="echo", topic="echo", **more)


def main() -> None:
    """Serve until killed: {"url"}."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    server = oslo_messaging.get_rpc_server(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=order["url"]), target(server=SERVER), [Endpoint()]
    )
    server.start()
    print("consuming", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
