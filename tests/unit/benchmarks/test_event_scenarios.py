# SPDX-License-Identifier: Apache-2.0
"""The counted events are those that their scenario names: none is refused or parked, no audit is stale."""

import pytest

from tests.benchmarks.event_scenarios import SCENARIOS, Scenario, run


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_counted_events_have_the_outcome_of_their_scenario(scenario: Scenario) -> None:
    marks: list[None] = []
    decisions = run(scenario, lambda: marks.append(None))
    assert {(decision.outcome, decision.reason) for decision in decisions} == {(scenario.outcome, None)}
    assert len(decisions) == scenario.nodes * scenario.batches
    assert len(marks) == 2
