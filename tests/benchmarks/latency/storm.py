# SPDX-License-Identifier: Apache-2.0
"""A process that sends audits until its second line of input. The first is {"url", "exchange", ...}.

`fill` sends the first audit of each node. `spread` sends each node's audit once a minute, at a time
of its own, as casts. `flood` sends calls, a node's next one once its last is answered.
"""

import json
import random
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any

from kombu.connection import Connection

from tests.benchmarks.latency.audits import Audit, audited_nodes
from tests.chaos.backlog import Publisher
from tests.delivery.oracle import connected
from tracker_worker.core.envelope import REPLY_QUEUE_PREFIX

PERIOD = 60.0
"""Seconds from one audit of a node to the next, as in Nova."""
SEED = 16


class Storm:
    """Sends audits on one connection. `number` is that of the first audits; later ones count on."""

    def __init__(self, connection: Connection, exchange: str, audits: Sequence[Audit], number: int) -> None:
        self._connection = connection
        self._publisher = Publisher(connection, exchange)
        self._audits = audits
        self._number = number
        self.sent = 0

    def fill(self) -> None:
        """Send one audit of each node."""
        for index in range(len(self._audits)):
            self._send(index)
        self._publisher.wait()

    def spread(self, stopping: threading.Event) -> None:
        """Send each node's audit once in PERIOD, at a random time that stays the same."""
        draw = random.Random(SEED)
        times = sorted((draw.uniform(0, PERIOD), index) for index in range(len(self._audits)))
        began = time.monotonic()
        while True:
            for at, index in times:
                if stopping.wait(max(began + at - time.monotonic(), 0.0)):
                    self._publisher.wait()
                    return
                self._send(index)
            began += PERIOD

    def flood(self, stopping: threading.Event, reply_queue: str) -> None:
        """Keep one audit of each node under way; return once all are answered."""
        ready = deque(range(len(self._audits)))
        flying: dict[str, int] = {}

        def answered(message: Any) -> None:
            caller = json.loads(json.loads(message.body)["oslo.message"])
            ready.append(flying.pop(caller["_msg_id"]))

        channel = self._connection.channel()
        channel.queue_declare(reply_queue, exclusive=True)
        channel.basic_consume(reply_queue, no_ack=True, callback=answered)
        while flying or not stopping.is_set():
            while ready and not stopping.is_set():
                index = ready.popleft()
                flying[self._send(index)] = index
            self._connection.drain_events(timeout=PERIOD)

    def _send(self, index: int) -> str:
        event_id = uuid.uuid4().hex
        self._number += 1
        self.sent += 1
        audit = self._audits[index]
        self._publisher.send(audit.server, audit.body(event_id, self._number))
        return event_id


def _stop_when_told(stopping: threading.Event) -> None:
    sys.stdin.readline()
    stopping.set()


def main() -> None:
    """Do what the order says; write {"sent", "seconds"} at the end."""
    order = json.loads(sys.stdin.readline())
    what = order["what"]
    reply_queue = f"{REPLY_QUEUE_PREFIX}{uuid.uuid4().hex}" if what == "flood" else None
    audits = [Audit(node, order["instances"], reply_queue) for node in audited_nodes(order["nodes"])]
    stopping = threading.Event()
    threading.Thread(target=_stop_when_told, args=[stopping], daemon=True).start()
    with connected(order["url"]) as connection:
        storm = Storm(connection, order["exchange"], audits, order["number"])
        print("consuming", flush=True)
        began = time.monotonic()
        if what == "fill":
            storm.fill()
        elif what == "spread":
            storm.spread(stopping)
        else:
            assert reply_queue is not None
            storm.flood(stopping, reply_queue)
        seconds = time.monotonic() - began
        stopping.wait()  # Whoever has started it reads the line before this one first.
        print(json.dumps({"sent": storm.sent, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
