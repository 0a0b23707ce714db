# SPDX-License-Identifier: Apache-2.0
"""A process with a stock oslo.messaging client: it casts the load, or measures calls of claims.

Reads one line of JSON from its standard input and writes one to its standard output when it is done. While
it casts, each further line is a number: how many casts it may have sent by now.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tests.delivery.load import command, schedule, server_of

THREADS = 8
TIMEOUT = 30


def main() -> None:
    """Do what the line says: {"do": "cast" or "call", "url", "exchange", ...}."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    url = f"{order['url']}?amqp_durable_queues=true"
    client = oslo_messaging.get_rpc_client(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=url),
        oslo_messaging.Target(exchange=order["exchange"], topic="tracker", version="1.0"),
        timeout=TIMEOUT,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )
    done = {"cast": cast, "call": call}[order["do"]](client, order)
    print(json.dumps(done), flush=True)


def cast(client: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Cast what it may as fast as the broker confirms it; a node's events from one thread, in order."""
    may: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(THREADS)]

    def run(share: int) -> None:
        allowed = 0
        try:
            for number, node, n in schedule(order["casts"], share, THREADS):
                while number >= allowed:
                    allowed = may[share].get()
                method, arguments = command(node, n)
                client.prepare(server=order["server"] or server_of(node)).cast({}, method, **arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threads = [threading.Thread(target=run, args=(share,)) for share in range(THREADS)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        for told in may:
            told.put(int(line))
    for thread in threads:
        thread.join()
    return {}


def call(client: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Report a node, then claim and abort in turn, one call after the other; the seconds of each claim."""
    node = "idle-node"
    lane = client.prepare(server=server_of(node))
    _, first = command("node-00", 0)
    lane.call({}, "update_available_resource", node=node, resources=first["resources"])
    _, claim = command("node-00", 1)
    instance = claim["instance"]
    seconds = []
    for _ in range(order["calls"]):
        started = time.perf_counter()
        reply = lane.call({}, "instance_claim", node=node, instance=instance)
        seconds.append(time.perf_counter() - started)
        assert reply["outcome"] == "granted", reply
        lane.call({}, "abort_instance_claim", node=node, instance_uuid=instance["uuid"])
    return {"seconds": seconds}


if __name__ == "__main__":
    main()
