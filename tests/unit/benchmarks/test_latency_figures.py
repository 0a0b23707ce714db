# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.benchmarks.latency.figures import Measurement, percentile, summarise
from tests.benchmarks.latency.phases import AUDITED, BASE, IDLE, KINDS, QUIET


def a_run(phase: str, number: int, base: float, claim: float) -> Measurement:
    seconds = {BASE: [base] * 100, AUDITED: [claim] * 98 + [4 * claim] * 2, QUIET: [claim] * 100}
    return Measurement(phase, number, audits=50.0, busy=0.1 * number, seconds=seconds)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3.0], 99, 3.0), ([2.0, 1.0], 50, 1.0), (range(1, 101), 50, 50), (range(1, 101), 99, 99)],
)
def test_percentile_is_one_of_the_values(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_summaries_have_every_kind_of_each_phase_in_order() -> None:
    found = summarise([a_run("storm", 1, 1, 1), a_run(IDLE, 1, 1, 1)])
    assert [(each.phase, each.kind) for each in found] == [
        (phase, kind) for phase in (IDLE, "storm") for kind in KINDS
    ]


def test_summary_has_the_medians_of_the_rounds() -> None:
    runs = [a_run(IDLE, 1, 1, 2), a_run(IDLE, 2, 1, 9), a_run(IDLE, 3, 1, 3)]
    claims = next(each for each in summarise(runs) if each.kind == AUDITED)
    assert (claims.calls, claims.busy, claims.p50, claims.p99) == (300, 0.2, 3, 12)


def test_ratio_compares_the_phases_of_a_round() -> None:
    """A round in which everything took ten times as long has the same ratio."""
    runs = [
        a_run(IDLE, 1, 1, 2), a_run("storm", 1, 2, 6),
        a_run(IDLE, 2, 10, 20), a_run("storm", 2, 20, 60),
    ]  # fmt: skip
    storm = next(each for each in summarise(runs) if each.phase == "storm" and each.kind == AUDITED)
    assert storm.to_base == {"p50": 3, "p99": 12}
    assert storm.to_first == {"p50": 3, "p99": 3}


def test_ratio_without_an_idle_phase_is_none() -> None:
    assert summarise([a_run("flood", 1, 1, 1)])[0].to_first == {"p50": None, "p99": None}
