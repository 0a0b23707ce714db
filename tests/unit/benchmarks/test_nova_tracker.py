# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from typing import Any

from tests.benchmarks.nova_tracker.nova import WARM, args_of, expected_account, measurements_of, order_of
from tests.benchmarks.nova_tracker.works import WORKS
from tests.benchmarks.throughput.figures import Measurement, Run
from tests.benchmarks.throughput.messages import REPLY_QUEUE, Audits, Claims, expected


def test_order_has_the_commands_of_the_first_node_alone() -> None:
    order = order_of(Claims(nodes=3, held=2), events=7)
    commands = [order["first"], *order["warm"], *order["events"]]
    assert {args["node"] for args in commands} == {order["node"]}
    assert (len(order["warm"]), len(order["events"])) == (WARM, 7)


def test_order_claims_another_instance_each_time() -> None:
    order = order_of(Claims(nodes=3, held=2), events=7)
    claimed = [args["instance"]["uuid"] for args in (*order["warm"], *order["events"])]
    held = [instance["uuid"] for instance in order["first"]["instances"]]
    assert len({*claimed, *held}) == WARM + 7 + 2


def test_node_holds_its_first_instances_and_those_claimed() -> None:
    scenario = Claims(nodes=3, held=2)
    messages = [scenario.message(number * 3) for number in range(WARM + 7)]
    (claimed,) = expected({}, messages).values()
    order = order_of(scenario, events=7)
    before = expected_account({**order, "warm": [], "events": []})
    due = Counter({name: claimed[name] for name in before})
    assert expected_account(order) == before + due
    assert before["claims"] == 2


def test_node_holds_what_it_held_after_audits() -> None:
    order = order_of(Audits(nodes=3, held=5), events=7)
    assert expected_account(order)["claims"] == 5


def test_called_claims_are_the_cast_ones_with_a_reply_queue() -> None:
    called, cast = (Claims(nodes=3, held=2, called=called).message(4) for called in (True, False))
    assert (called.called, cast.called) == (True, False)
    assert (args_of(called), called.effect) == (args_of(cast), cast.effect)
    assert REPLY_QUEUE.encode() in called.body


def a_result(reads: float) -> dict[str, Any]:
    order = order_of(Audits(nodes=3, held=5), events=2)
    return {
        "whole": {"cpu_seconds": 8.0, "seconds": 10.0},
        "reads": {"cpu_seconds": reads, "seconds": reads},
        "peak_bytes": 1000,
        "account": dict(expected_account(order)),
    }


def the_measurements(result: dict[str, Any]) -> list[Measurement]:
    order = order_of(Audits(nodes=3, held=5), events=2)
    return measurements_of(Run("audits-50", "postgresql", "nova", 1, 2), order, result)


def test_measurement_is_there_without_reads_too() -> None:
    whole, rest = the_measurements(a_result(reads=6.0))
    assert (whole.contestant, whole.cpu_seconds, whole.seconds) == ("nova", 8, 10)
    assert (rest.contestant, rest.cpu_seconds, rest.seconds) == ("nova - reads", 2, 4)
    assert whole.wrong == rest.wrong == []


def test_measurement_of_what_reads_nothing_is_there_once() -> None:
    assert len(the_measurements(a_result(reads=0.0))) == 1


def test_measurement_says_what_the_node_holds_too_little() -> None:
    result = a_result(reads=0.0)
    result["account"]["claims"] -= 1
    (measurement,) = the_measurements(result)
    assert measurement.wrong == ["compute-00000: claims is 4, not 5"]


def test_worker_has_the_commands_that_nova_does() -> None:
    for work in WORKS.values():
        orders = [order_of(plan.scenario, events=2) for plan in work.plans.values()]
        assert orders == [order_of(work.scenario, events=2)] * len(orders)
