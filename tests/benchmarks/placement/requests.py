# SPDX-License-Identifier: Apache-2.0
"""Counts the requests of each situation at a proxy in front of Placement."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

from tests.benchmarks.latency.audits import report_of
from tests.benchmarks.placement.audits import change, no_change
from tests.benchmarks.placement.cloud import Cloud
from tests.benchmarks.placement.figures import (
    CHANGE,
    CONFLICT,
    FIRST,
    NO_CHANGE,
    REFRESH,
    REFRESH_MOVED,
    RESTART,
    Requests,
)
from tests.benchmarks.placement.request_log import RequestLog
from tests.servers.proxy import Proxy

EACH_AUDITED = 2
"""How often a node is audited in the situation NO_CHANGE."""
ALLOCATED = {"VCPU": 1, "MEMORY_MB": 512}


def count_requests(cloud: Cloud) -> Iterator[Requests]:
    """Have the nodes synced for the first time, and meet each situation once."""
    log = RequestLog()
    with Proxy(cloud.placement.port, log.connection) as proxy:
        url = proxy.through(cloud.placement.url)
        with cloud.worker(url):
            yield from _situations(cloud, log)
        position = log.position()
        with cloud.worker(url):
            _audit(cloud, len(cloud.nodes), 0.0)
            yield Requests(RESTART, len(cloud.nodes), log.since(position))


def _situations(cloud: Cloud, log: RequestLog) -> Iterator[Requests]:
    nodes, some = cloud.nodes, cloud.nodes[: cloud.settings.some]

    @contextmanager
    def counted(situation: str, times: int) -> Iterator[list[Requests]]:
        found: list[Requests] = []
        position = log.position()
        yield found
        cloud.wait_until_synced()
        found.append(Requests(situation, times, log.since(position)))

    def changed(situation: str, number: int) -> Requests:
        with counted(situation, len(some)) as found:
            cloud.report((node, change(node, number)) for node in some)
        return found[0]

    def refreshed(situation: str) -> Requests:
        with counted(situation, len(some)) as found:
            cloud.make_due(some)
        return found[0]

    def allocate() -> None:
        for node in some:
            cloud.placement.allocate(report_of(node)["uuid"], ALLOCATED)

    with counted(FIRST, len(nodes)) as found:
        cloud.fill()
    yield found[0]
    audits = EACH_AUDITED * len(nodes)
    with counted(NO_CHANGE, audits) as found:
        _audit(cloud, audits, cloud.settings.audits)
    yield found[0]
    yield changed(CHANGE, 1)
    allocate()
    yield changed(CONFLICT, 2)
    yield refreshed(REFRESH)
    allocate()
    yield refreshed(REFRESH_MOVED)
    cloud.report((node, change(node, 0)) for node in some)
    cloud.wait_until_synced()


def _audit(cloud: Cloud, number: int, seconds: float) -> None:
    """Audit the nodes in turn; Placement need not know what is new."""
    audits: Any = islice(cycle(cloud.nodes), number)
    cloud.report(((node, no_change(node, 0, index)) for index, node in enumerate(audits)), seconds)
