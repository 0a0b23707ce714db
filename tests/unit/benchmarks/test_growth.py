# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.benchmarks.growth.figures import growth_of
from tests.benchmarks.growth.series import SERIES, Unnotified, unwrapped
from tests.benchmarks.throughput.figures import Measurement
from tests.benchmarks.throughput.messages import Events


def a_run(number: int, cpu_seconds: float, *wrong: str) -> Measurement:
    return Measurement("instances", "postgresql", "worker", number, 100, 1.0, cpu_seconds, 1000, wrong)


def test_growth_compares_the_sizes_of_a_round() -> None:
    """A round in which everything took ten times as long has the same ratios."""
    growth = growth_of(
        "instances",
        {
            10: [a_run(1, 1.0), a_run(2, 10.0), a_run(3, 2.0)],
            100: [a_run(1, 1.1), a_run(2, 11.0), a_run(3, 2.0)],
            1000: [a_run(1, 0.8), a_run(2, 8.0), a_run(3, 1.6)],
        },
    )
    assert [(point.size, point.ratio) for point in growth.points] == [
        (10, 1.0),
        (100, pytest.approx(1.1)),
        (1000, pytest.approx(0.8)),
    ]
    assert growth.points[0].cpu == 0.02
    assert growth.factor == pytest.approx(1.1 / 0.8)


def test_growth_keeps_the_faults_of_every_size() -> None:
    growth = growth_of("instances", {10: [a_run(1, 1.0, "a")], 100: [a_run(1, 1.0), a_run(2, 1.0, "b")]})
    assert growth.wrong == ["a", "b"]


def test_events_without_notifications_change_the_same_and_notify_of_none() -> None:
    events = Events(nodes=2, held=1)
    for number in range(6):
        message, quiet = events.message(number), Unnotified(events).message(number)
        assert (quiet.node, quiet.body) == (message.node, message.body)
        assert quiet.effect == {**message.effect, "notified": 0}


def test_series_with_and_without_notifications_begin_with_the_same_database() -> None:
    quiet, notified = (SERIES[name].plans for name in ("nodes", "nodes-notified"))
    assert {size: unwrapped(plan.scenario) for size, plan in quiet.items()} == {
        size: plan.scenario for size, plan in notified.items()
    }
