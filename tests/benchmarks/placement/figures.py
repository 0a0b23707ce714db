# SPDX-License-Identifier: Apache-2.0
"""The figures: requests in a situation and Nova's, claims in a phase, the sync after an outage. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.latency.figures import Measurement

NOVA: Mapping[str, str] = {
    "first sync of a node": "7",
    "event, nothing changed for Placement": "1 + N",
    "change": "2 + N",
    "change, generation moved": "8 + 2 N",
    "refresh, generation stands": "5 + N",
    "refresh, generation moved": "5 + N",
    "restart, and an audit of each node": "5 + N",
}
"""The situations, and the requests that Nova 34 makes in them, measured: N is the number of instances with
allocations on the node. Nova makes them for a node in the first sync, a refresh and a restart, otherwise for
an event. After the conflict it begins anew: 2 + N and 6 + N.
"""
FIRST, NO_CHANGE, CHANGE, CONFLICT, REFRESH, REFRESH_MOVED, RESTART = NOVA


@dataclass(frozen=True)
class Requests:
    """The requests of a situation that was met so many `times`, by their kind."""

    situation: str
    times: int
    requests: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.requests.values())

    @property
    def each(self) -> float:
        """Requests each time."""
        return self.total / self.times

    @property
    def kinds(self) -> list[str]:
        """The kinds, with how often each was made each time, unless that was once."""
        return [
            kind if count == self.times else f"{kind} ({count / self.times:.3g})"
            for kind, count in self.requests.items()
        ]


UP = "up"
PHASES: Mapping[str, str] = {
    UP: "Placement answers",
    "down": "connections are refused",
    "hanging": "no request is answered",
    "unavailable": "each request is answered with 503",
}
GOAL = 1.2
"""The ratio of a claim's p99 to that with Placement up, at most."""


@dataclass(frozen=True)
class Phase:
    """Claims in a phase of a round, and how many nodes had changes that Placement did not have at its end."""

    claims: Measurement
    unsynced: int


@dataclass(frozen=True)
class Recovery:
    """The sync of so many nodes that changed during an outage, or were `new`.

    `first` and `all` are the seconds from Placement's first answer to the first node's sync and to the last
    one's.
    """

    nodes: int
    new: bool
    first: float
    all: float

    @property
    def rate(self) -> float:
        """Nodes a second, once the sync has begun."""
        return self.nodes / max(self.all - self.first, 0.001)


RECOVERY_GOAL = 60.0
