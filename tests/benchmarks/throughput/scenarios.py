# SPDX-License-Identifier: Apache-2.0
"""The scenarios, who takes part in each, and with how many messages: some seconds of each on two cores."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.throughput.messages import Audits, Events, Scenario
from tests.delivery.processes import Options

CONTESTANTS = ("stock", "naive", "worker", "limit")


@dataclass(frozen=True)
class Plan:
    """A scenario and its contestants' numbers of messages, all from the beginning of the same series.

    `pace`: so many messages a second arrive, one at a time; otherwise all of them wait in the queues.
    `options` are in tracker-worker's configuration file. So many of the messages are handled before, at least
    one of each node: `warm`.
    """

    title: str
    scenario: Scenario
    counts: Mapping[str, int]
    pace: int | None = None
    options: Options | None = None
    warm: int = 0


PLANS = {
    "events": Plan(
        "claims, state changes and deletes on 200 nodes",
        Events(nodes=200, held=4),
        {"stock": 800, "naive": 1200, "worker": 9000, "limit": 18000},
    ),
    "audits-50": Plan(
        "audits of 50 instances that change nothing",
        Audits(nodes=100, held=50),
        {"stock": 300, "naive": 300, "worker": 1600, "limit": 4000},
    ),
    "audits-1000": Plan(
        "audits of 1,000 instances that change nothing",
        Audits(nodes=16, held=1000),
        {"stock": 32, "naive": 32, "worker": 112, "limit": 240},
    ),
    "audits-changed": Plan(
        "audits of 50 instances, 2 % of which change something",
        Audits(nodes=100, held=50, every=50),
        {"stock": 300, "naive": 300, "worker": 1600, "limit": 4000},
    ),
    "audits-paced": Plan(
        "audits of 50 instances that arrive one at a time, 50 a second",
        Audits(nodes=100, held=50),
        {"worker": 300},
        pace=50,
    ),
}
