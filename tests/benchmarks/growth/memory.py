# SPDX-License-Identifier: Apache-2.0
"""The memory of a worker by what it keeps, and what its restart costs.

After a restart a worker keeps no node. Its first event loads one; then every node is audited once, which
loads it and compares all of its instances, and some are audited again, which repeats the audit before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import psutil

from tests.benchmarks.growth.capacity import Footprint
from tests.benchmarks.growth.events import DATABASE
from tests.benchmarks.growth.filled import fill
from tests.benchmarks.growth.series import OURS
from tests.benchmarks.throughput import contestants
from tests.benchmarks.throughput.messages import Audits
from tests.benchmarks.throughput.run import open_workspace
from tests.benchmarks.throughput.servers import Servers
from tests.benchmarks.throughput.usage import usage_of
from tests.delivery.processes import Broker, Processes
from tracker_worker.db.engine import create_engine

MANY = 10_000
HELD = 50
RESTARTS = 3
SIZES = ((MANY // 10, 0), (MANY, 0), (MANY, HELD))
"""Nodes, and the instances that each holds."""


@dataclass(frozen=True)
class Restarted:
    """A worker that has loaded all its nodes.

    Median seconds from the start of the process to the commit of its first event; CPU seconds of an audit
    that loads its node, and of one that repeats it; resident bytes afterwards, and the most of all time.
    """

    nodes: int
    held: int
    first_event: float
    loading_audit: float
    repeated_audit: float
    resident: int
    peak: int


def footprint_of(few: Restarted, many: Restarted, full: Restarted) -> Footprint:
    """Compare workers with few nodes, with many, and with as many that hold instances. Pure."""
    node = (many.resident - few.resident) / (many.nodes - few.nodes)
    return Footprint(
        worker=few.resident - few.nodes * node,
        node=node,
        claim=(full.resident - many.resident) / (full.nodes * full.held),
    )


def measure_memory(servers: Servers, size: float, show: Callable[[str], None]) -> list[Restarted]:
    """Measure a worker of each size, with `size` times the nodes."""
    found = []
    for nodes, held in SIZES:
        found.append(_restarted(servers, Audits(max(1, round(nodes * size)), held)))
        show(f"memory: {found[-1]}")
    return found


def _restarted(servers: Servers, scenario: Audits) -> Restarted:
    url = servers.new_database(DATABASE)
    fill(url, scenario.first)
    _analyse(url)
    again = max(1, scenario.nodes // 5)
    with (
        servers.vhost() as vhost,
        Processes() as processes,
        open_workspace(vhost, url, OURS) as workspace,
    ):
        broker = Broker(vhost)
        running = contestants.start(OURS, processes, broker, url)
        first_events = []
        for number in range(RESTARTS):
            processes.stop(running.process, running.log)
            workspace.publish([scenario.message(number)])
            began = time.monotonic()
            running = contestants.start(OURS, processes, broker, url)
            workspace.wait(running, processes)
            first_events.append(time.monotonic() - began)
        pid = running.process.pid
        cpu_seconds = []
        for numbers in (range(RESTARTS, scenario.nodes), range(scenario.nodes, scenario.nodes + again)):
            before = usage_of(pid).cpu_seconds
            workspace.publish([scenario.message(number) for number in numbers])
            workspace.wait(running, processes)
            cpu_seconds.append((usage_of(pid).cpu_seconds - before) / len(numbers))
        loading, repeated = cpu_seconds
        resident, peak = psutil.Process(pid).memory_info().rss, usage_of(pid).peak_bytes
        processes.stop(running.process, running.log)
        wrong = workspace.wrong()
    assert not wrong, wrong[:4]
    return Restarted(scenario.nodes, scenario.held, median(first_events), loading, repeated, resident, peak)


def _analyse(url: str) -> None:
    """Have the database gather the statistics that autovacuum gathers within a minute."""
    engine = create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()
