# SPDX-License-Identifier: Apache-2.0
"""The comparison of figures with their bounds: what it lets pass, and what it finds."""

import msgspec
import pytest

from tests.benchmarks.event_scenarios import SCENARIOS
from tests.benchmarks.instructions import BOUNDS_FILE, TOLERANCE_PERCENT, Bounds, check, faults, figures_of

BOUNDS = {"claim": 678_000, "delete": 524_000}
COUNTED_WITH = "msgspec 0.1, valgrind-2.0"
HERE = "CPython 3.11.7 x86_64"
STORED = {HERE: Bounds(COUNTED_WITH, BOUNDS)}


def slower(percent: int) -> dict[str, int]:
    return {"claim": BOUNDS["claim"] * (100 + percent) // 100, "delete": BOUNDS["delete"]}


def test_slowdown_of_ten_percent_is_a_fault_of_its_scenario() -> None:
    assert faults(slower(10), BOUNDS) == [
        "claim: 745,800 instructions an event are 10.0 % more than the bound of 678,000; 5 % are allowed"
    ]


def test_increase_within_the_tolerance_is_no_fault() -> None:
    assert faults(slower(TOLERANCE_PERCENT), BOUNDS) == []


def test_increase_by_one_instruction_above_the_tolerance_is_a_fault() -> None:
    figures = slower(TOLERANCE_PERCENT)
    figures["claim"] += 1
    assert len(faults(figures, BOUNDS)) == 1


def test_faster_event_is_no_fault() -> None:
    assert faults(slower(-50), BOUNDS) == []


def test_scenario_without_a_bound_is_a_fault() -> None:
    assert faults({**BOUNDS, "audit": 1}, BOUNDS) == ["audit: has no bound"]


def test_bound_without_its_scenario_is_a_fault() -> None:
    assert faults({"claim": BOUNDS["claim"]}, BOUNDS) == ["delete: has a bound, but is not counted"]


def test_check_of_slowdown_fails_and_names_versions_and_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(slower(10), HERE, STORED, "msgspec 0.2, valgrind-2.0") == 1
    printed = capsys.readouterr().out
    assert COUNTED_WITH in printed
    assert "make instructions RENEW=1" in printed


def test_check_of_figures_at_their_bounds_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(BOUNDS, HERE, STORED, COUNTED_WITH) == 0
    assert "RENEW" not in capsys.readouterr().out


@pytest.mark.parametrize("other", ["CPython 3.12.1 x86_64", "CPython 3.11.7 aarch64"])
def test_other_interpreter_is_not_compared_and_says_so(
    other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(slower(100), other, STORED, COUNTED_WITH) == 0
    assert f"no bounds for {other}: NOTHING WAS COMPARED" in capsys.readouterr().out


def test_figures_are_totals_between_marks_divided_by_events() -> None:
    assert figures_of([900, 50, 700, 84], {"claim": 5, "delete": 4}) == {"claim": 10, "delete": 21}


def test_mark_called_by_something_else_is_detected() -> None:
    with pytest.raises(AssertionError, match="marks"):
        figures_of([900, 50, 700], {"claim": 5})


def test_stored_bounds_are_those_of_all_scenarios() -> None:
    stored = msgspec.json.decode(BOUNDS_FILE.read_bytes(), type=dict[str, Bounds])
    assert {name: set(each.instructions) for name, each in stored.items()} == dict.fromkeys(
        stored, {scenario.name for scenario in SCENARIOS}
    )
