# SPDX-License-Identifier: Apache-2.0
"""Measures claims in each state of Placement, while nodes change, and the sync after an outage."""

import time
from collections.abc import Iterator

from tests.benchmarks.latency.audits import audited_nodes
from tests.benchmarks.latency.figures import Measurement
from tests.benchmarks.placement.audits import change
from tests.benchmarks.placement.cloud import SECONDS, Cloud
from tests.benchmarks.placement.figures import PHASES, Phase, Recovery
from tests.benchmarks.placement.outages import outage
from tests.benchmarks.throughput.usage import usage_of

NUMBERS = 1_000_000
"""Numbers of the changes in one phase: more than it can have."""


def measure_claims(cloud: Cloud, worker: int) -> Iterator[Phase]:
    """Measure the phases in turn, round by round. `worker` is the worker's pid."""
    echo = cloud.processes.start_consumer(
        {"url": cloud.broker.client_url}, "tests.benchmarks.latency.echo", "echo.log"
    )
    number = 0
    for round_number in range(1, cloud.settings.rounds + 1):
        for name in PHASES:
            cloud.wait_until_synced()
            number += NUMBERS
            with outage(cloud.placement, name):
                yield _phase(cloud, worker, name, round_number, number)
    cloud.processes.kill(echo)


def _phase(cloud: Cloud, worker: int, name: str, round_number: int, number: int) -> Phase:
    order = {
        "url": cloud.broker.url,
        "exchange": cloud.broker.exchange,
        "nodes": cloud.settings.nodes,
        "number": number,
    }
    changes = cloud.processes.start_consumer(order, "tests.benchmarks.placement.changes", "changes.log")
    before, began = usage_of(worker), time.monotonic()
    caller = cloud.processes.start(
        {
            "url": cloud.broker.client_url,
            "exchange": cloud.broker.exchange,
            "database": cloud.database,
            "calls": cloud.settings.calls,
            "seconds": cloud.settings.seconds,
        },
        "-m",
        "tests.benchmarks.latency.caller",
        log="caller.log",
    )
    seconds = cloud.processes.result(caller, "caller.log", SECONDS)
    busy = (usage_of(worker).cpu_seconds - before.cpu_seconds) / (time.monotonic() - began)
    unsynced = cloud.unsynced()
    cloud.processes.tell(changes, "stop")
    sent = cloud.processes.result(changes, "changes.log", SECONDS)
    rate = sent["sent"] / sent["seconds"]
    return Phase(Measurement(name, round_number, audits=rate, busy=busy, seconds=seconds), unsynced)


def measure_recovery(cloud: Cloud) -> Iterator[Recovery]:
    """Measure the sync of all nodes that changed during an outage, then of as many new ones."""
    for new in (False, True):
        count = len(cloud.nodes)
        nodes = audited_nodes(2 * count)[count:] if new else cloud.nodes
        cloud.wait_until_synced()
        with outage(cloud.placement, "down"):
            cloud.report((node, change(node, 7)) for node in nodes)
            cloud.known += count if new else 0
            time.sleep(cloud.settings.outage)
        first, last = cloud.recovered(count)
        yield Recovery(count, new, first, last)
