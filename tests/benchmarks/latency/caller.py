# SPDX-License-Identifier: Apache-2.0
"""A process that measures: claims through rpcapi, in turn with empty calls and commits.

Reads {"url", "exchange", "database", "calls", "seconds"}; writes {kind: [seconds of each]}.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import oslo_messaging
import psycopg
from oslo_config import cfg

from tests.benchmarks.latency import echo
from tests.benchmarks.latency.audits import claimed_node, instance_of, report_of
from tests.benchmarks.latency.phases import AUDITED, BASE, QUIET
from tracker_worker.rpcapi import TrackerAPI

WARM = 5
"""Turns that are not counted: connections and statements are ready after them."""
PAUSE = 0.05
"""Seconds between two measurements: what follows a commit, a notification above all, is over by then."""

Measured = Callable[[int], float]


def claims(api: TrackerAPI, node: str) -> Measured:
    """Return what claims on a node, and aborts; it returns the seconds of the claim."""
    api.update_available_resource({}, node, report_of(node))

    def claim(number: int) -> float:
        instance = instance_of(node, number, vm_state="building", task_state="spawning")
        began = time.perf_counter()
        api.instance_claim({}, node, instance)
        seconds = time.perf_counter() - began
        api.call({}, "abort_instance_claim", node, instance_uuid=instance["uuid"])
        return seconds

    return claim


def base(url: str, database: str) -> Measured:
    """Return what calls an empty method and commits; it returns the seconds of both."""
    client = oslo_messaging.get_rpc_client(
        oslo_messaging.get_rpc_transport(cfg.CONF, url=url), echo.target(server=echo.SERVER)
    )
    connection = psycopg.connect(database)
    connection.execute("CREATE TABLE IF NOT EXISTS bare (number integer, node text)")
    connection.commit()

    def call(number: int) -> float:
        began = time.perf_counter()
        client.call({}, "empty")
        connection.execute("INSERT INTO bare VALUES (%s, %s)", (number, "node"))
        connection.commit()
        return time.perf_counter() - began

    return call


def measure(order: dict[str, Any], measured: dict[str, Measured]) -> dict[str, list[float]]:
    """Measure each in turn, so many times, or until the time is over."""
    found: dict[str, list[float]] = {kind: [] for kind in measured}
    ends = time.monotonic()
    for number in range(WARM + order["calls"]):
        if number == WARM:
            ends = time.monotonic() + order["seconds"]
        for kind, call in measured.items():
            time.sleep(PAUSE)
            seconds = call(number)
            if number >= WARM:
                found[kind].append(seconds)
        if number > WARM and time.monotonic() > ends:
            break
    return found


def main() -> None:
    """Do what the order says."""
    cfg.CONF([])
    order = json.loads(sys.stdin.readline())
    api = TrackerAPI.from_conf(cfg.CONF, order["url"], exchange=order["exchange"])
    found = measure(
        order,
        {
            BASE: base(order["url"], order["database"]),
            AUDITED: claims(api, claimed_node(quiet=False)),
            QUIET: claims(api, claimed_node(quiet=True)),
        },
    )
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
