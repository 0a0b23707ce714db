# SPDX-License-Identifier: Apache-2.0
"""The series whose cost an event is compared: the same events, one size after the other. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tests.benchmarks.throughput.messages import Events, Message, Scenario
from tests.benchmarks.throughput.scenarios import PLANS, Plan
from tests.delivery.processes import Options

OURS = "worker"
HELD = (0, 100, 1_000, 10_000)
HELD_IN_BATCHES = (10, *HELD[1:])
"""A node that holds none would have less to do: a claim and its delete in one batch leave no row to write."""
HOLDERS = 16
WARM = 5_120
"""So many events are handled before the measured ones: what follows a load is not their cost."""
NODES = (10, 1_000, 10_000)
QUIET: Options = {"oslo_messaging_notifications": {"driver": "noop"}}


@dataclass(frozen=True)
class Series:
    """Plans by size, from the smallest; `goal` is the most that the largest cost may be of the smallest."""

    title: str
    plans: Mapping[int, Plan]
    goal: float | None = None


@dataclass(frozen=True)
class Unnotified:
    """A scenario for a worker that sends no notifications."""

    scenario: Scenario

    @property
    def nodes(self) -> int:
        """How many nodes the messages go round."""
        return self.scenario.nodes

    @property
    def first(self) -> list[Message]:
        """The first messages of the nodes."""
        return self.scenario.first

    def message(self, number: int) -> Message:
        """The message of this number, from 0."""
        message = self.scenario.message(number)
        return replace(message, effect={**message.effect, "notified": 0})


def unwrapped(scenario: Scenario) -> Scenario:
    """Return the scenario that has the same nodes and events, with notifications."""
    return scenario.scenario if isinstance(scenario, Unnotified) else scenario


def _holding(held: int, events: int, pace: int | None = None) -> Plan:
    return Plan(f"{held:,} instances", Events(HOLDERS, held), {OURS: events}, pace, warm=WARM)


def _spread(nodes: int, notified: bool) -> Plan:
    events: Scenario = Events(nodes, held=4)
    scenario, options = (events, None) if notified else (Unnotified(events), QUIET)
    return Plan(f"{nodes:,} nodes", scenario, {OURS: 20_000}, options=options, warm=WARM)


SERIES = {
    "instances": Series(
        f"instances that each of {HOLDERS} nodes holds; events in batches",
        {held: _holding(held, 10_240) for held in HELD_IN_BATCHES},
        goal=1.15,
    ),
    "instances-alone": Series(
        f"instances that each of {HOLDERS} nodes holds; events one at a time, 50 a second",
        {held: _holding(held, 300, pace=50) for held in HELD},
        goal=1.15,
    ),
    "nodes": Series(
        "nodes of the worker; notifications off",
        {nodes: _spread(nodes, notified=False) for nodes in NODES},
        goal=1.3,
    ),
    "nodes-notified": Series(
        "nodes of the worker; notifications on",
        {nodes: _spread(nodes, notified=True) for nodes in NODES},
    ),
}

COSTS = {
    "audit-alone": PLANS["audits-paced"],
    "audit-in-batch": PLANS["audits-50"],
    "event-alone": Plan("events one at a time", Events(nodes=200, held=4), {OURS: 300}, pace=50),
    "event-in-batch": PLANS["events"],
}
"""The messages whose CPU the capacity of workers is computed from."""
