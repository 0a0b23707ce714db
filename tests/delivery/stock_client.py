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

import amqp
import oslo_messaging
from kombu.exceptions import KombuError
from oslo_config import cfg

from tests.delivery.load import command, schedule, server_of

THREADS = 8
TIMEOUT = 30
PAUSE = 0.1
"""Seconds before a cast that failed is tried again."""


def main() -> None:
    """Do what the line says: {"do": "cast" or "call", "url", "exchange", ...}."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    client = oslo_messaging.get_rpc_client(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=order["url"]),
        oslo_messaging.Target(exchange=order["exchange"], topic="tracker", version="1.0"),
        timeout=TIMEOUT,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )
    done = {"cast": cast, "call": call}[order["do"]](client, order)
    print(json.dumps(done), flush=True)


def cast(client: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Cast what is allowed as fast as the broker confirms it; a node's events from one thread, in order.

    A cast without a confirm may have arrived: it is repeated under the same id, and `again` counts it.
    """
    may: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(THREADS)]
    again: list[int] = []

    def run(share: int) -> None:
        allowed = 0
        try:
            for number, node, n in schedule(order["casts"], share, THREADS):
                while number >= allowed:
                    allowed = may[share].get()
                way = client.prepare(server=order["server"] or server_of(node))
                while not _confirmed(way, *command(node, n)):
                    again.append(number)
                    time.sleep(PAUSE)
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
    return {"again": len(again)}


def _confirmed(way: Any, method: str, arguments: dict[str, Any]) -> bool:
    """Cast; False when it failed. A cast that no queue takes is an error: the worker declares them first."""
    try:
        way.cast({}, method, **arguments)
    except oslo_messaging.MessageUndeliverable:
        raise
    except (oslo_messaging.MessagingException, OSError, amqp.AMQPError, KombuError):
        traceback.print_exc()
        return False
    return True


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
