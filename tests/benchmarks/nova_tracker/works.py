# SPDX-License-Identifier: Apache-2.0
"""What is compared: the messages, and how many of them each contestant gets."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.throughput.messages import Audits, Claims, Scenario
from tests.benchmarks.throughput.scenarios import Plan

AT_ONCE = "the worker's wait in its queues"
PACE = 50
IN_TURN = f"the worker's arrive one at a time, {PACE} a second"


@dataclass(frozen=True)
class Work:
    """A scenario of whose first node Nova's tracker does so many events, always one at a time.

    The worker's plans are by name. Their messages differ from the scenario's in nothing that Nova does.
    """

    scenario: Scenario
    events: int
    plans: Mapping[str, Plan]


_CALLS = Claims(nodes=100, held=4, called=True)
_CASTS = Claims(nodes=100, held=4)
_AUDITS = Audits(nodes=100, held=50)
_UNCHANGED = "audits of 50 instances that change nothing"

WORKS = {
    "claims": Work(
        _CALLS,
        100,
        {
            "claims": Plan(f"claims; {AT_ONCE}", _CALLS, {"worker": 8000}),
            "claims-cast": Plan(f"claims without a reply; {AT_ONCE}", _CASTS, {"worker": 8000}),
            "claims-paced": Plan(f"claims; {IN_TURN}", _CALLS, {"worker": 250}, PACE),
        },
    ),
    "audits-50": Work(
        _AUDITS,
        100,
        {
            "audits-50": Plan(f"{_UNCHANGED}; {AT_ONCE}", _AUDITS, {"worker": 4000}),
            "audits-50-paced": Plan(f"{_UNCHANGED}; {IN_TURN}", _AUDITS, {"worker": 250}, PACE),
        },
    ),
}
