# SPDX-License-Identifier: Apache-2.0
"""A process that reports another total of a node every 100 ms, until its second line of input.

Reads {"url", "exchange", "nodes", "number"}; writes {"sent", "seconds"} at the end.
"""

import json
import sys
import threading
import time
from itertools import count

from tests.benchmarks.latency.audits import audited_nodes, server
from tests.benchmarks.placement.audits import change
from tests.chaos.backlog import Publisher
from tests.delivery.oracle import connected

PERIOD = 0.1


def _stop_when_ordered(stopping: threading.Event) -> None:
    sys.stdin.readline()
    stopping.set()


def main() -> None:
    """Do what the order says."""
    order = json.loads(sys.stdin.readline())
    nodes = audited_nodes(order["nodes"])
    stopping = threading.Event()
    threading.Thread(target=_stop_when_ordered, args=[stopping], daemon=True).start()
    with connected(order["url"]) as connection:
        publisher = Publisher(connection, order["exchange"])
        print("consuming", flush=True)
        began = time.monotonic()
        for sent in count():
            if stopping.wait(max(began + sent * PERIOD - time.monotonic(), 0.0)):
                break
            node = nodes[sent % len(nodes)]
            publisher.send(server(node), change(node, order["number"] + sent))
        publisher.wait()
        print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
