# SPDX-License-Identifier: Apache-2.0
"""A compute manager that waits for every answer: it calls with a node's events, one after the other.

Reads one line of JSON from its standard input, {"url", "exchange", "node", "calls"}, and writes the seconds
of each call to its standard output. The first call, the node's report, is not among them.
"""

import json
import sys
import time

import oslo_messaging
from oslo_config import cfg

from tests.delivery.load import command, server_of

TIMEOUT = 120


def main() -> None:
    """Call, and print the seconds."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    client = oslo_messaging.get_rpc_client(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=order["url"]),
        oslo_messaging.Target(exchange=order["exchange"], topic="tracker", version="1.0"),
        timeout=TIMEOUT,
    )
    lane = client.prepare(server=server_of(order["node"]))
    seconds = []
    for n in range(order["calls"] + 1):
        method, arguments = command(order["node"], n)
        started = time.perf_counter()
        reply = lane.call({}, method, **arguments)
        seconds.append(time.perf_counter() - started)
        assert reply["outcome"] in ("applied", "granted", "ignored"), reply
    print(json.dumps(seconds[1:]), flush=True)


if __name__ == "__main__":
    main()
