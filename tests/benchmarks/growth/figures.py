# SPDX-License-Identifier: Apache-2.0
"""How costs grow over the sizes of a series. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.throughput.figures import Measurement, cpu_of, ratio


@dataclass(frozen=True)
class Point:
    """The median CPU of an event at a size, in seconds, and its ratio to that at the smallest size."""

    size: int
    cpu: float
    ratio: float


@dataclass(frozen=True)
class Growth:
    """The points of a series; `factor` is the largest ratio over the smallest."""

    series: str
    points: Sequence[Point]
    factor: float
    wrong: Sequence[str]


def growth_of(series: str, rounds: Mapping[int, Sequence[Measurement]]) -> Growth:
    """Compare the measurements of each size with those of the first one, round by round."""
    smallest = next(iter(rounds.values()))
    points = [
        Point(size, median(map(cpu_of, runs)), ratio(runs, smallest, cpu_of) or 0.0)
        for size, runs in rounds.items()
    ]
    ratios = [point.ratio for point in points]
    wrong = [fault for runs in rounds.values() for run in runs for fault in run.wrong]
    return Growth(series, points, max(ratios) / min(ratios), wrong)
