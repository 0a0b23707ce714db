# SPDX-License-Identifier: Apache-2.0
from tests.benchmarks.throughput.figures import Measurement, cpu_of, ratio, summarise


def a_run(contestant: str, number: int, seconds: float, cpu_seconds: float = 1.0, *wrong: str) -> Measurement:
    return Measurement("events", "postgresql", contestant, number, 128, seconds, cpu_seconds, 1000, wrong)


def test_summary_has_the_medians_of_the_rounds() -> None:
    runs = [a_run("worker", n, seconds, cpu) for n, seconds, cpu in ((1, 1, 3), (2, 2, 1), (3, 10, 2))]
    (summary,) = summarise(runs)
    assert (summary.rate, summary.cpu, summary.peak_bytes) == (64, 2 / 128, 1000)


def test_ratio_compares_the_runs_of_a_round() -> None:
    """A round in which everything took ten times as long has the same ratio."""
    runs = [
        a_run("stock", 1, 8, 6), a_run("worker", 1, 2, 2),
        a_run("stock", 2, 80, 60), a_run("worker", 2, 20, 20),
        a_run("stock", 3, 8, 1), a_run("worker", 3, 8, 1),
    ]  # fmt: skip
    stock, worker = summarise(runs)
    assert (stock.by_wall, stock.by_cpu) == (4, 3)
    assert (worker.by_wall, worker.by_cpu) == (1, 1)


def test_ratio_without_a_common_round_is_none() -> None:
    assert ratio([a_run("worker", 1, 1)], [a_run("stock", 2, 1)], cpu_of) is None
    assert ratio([], [a_run("stock", 1, 1)], cpu_of) is None


def test_summary_keeps_the_faults_of_every_round() -> None:
    (summary,) = summarise([a_run("limit", 1, 1, 1, "a"), a_run("limit", 2, 1), a_run("limit", 3, 1, 1, "b")])
    assert summary.wrong == ["a", "b"]
