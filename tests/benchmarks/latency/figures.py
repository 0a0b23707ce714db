# SPDX-License-Identifier: Apache-2.0
"""The figures of measurements: percentiles, their medians over the rounds, and ratios. Pure.

A ratio is the median of the rounds' ratios: the phases of a round are neighbours, and share what else the
machine does.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.latency.phases import BASE, KINDS, PHASES


@dataclass(frozen=True)
class Measurement:
    """A phase of one round.

    `audits` were sent a second, `busy` is the worker's seconds of CPU a second, `seconds` those of each call
    by its kind.
    """

    phase: str
    round: int
    audits: float
    busy: float
    seconds: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Summary:
    """The medians of the rounds of a kind of call in a phase, in seconds, and its ratios by percentile.

    `to_base` is the ratio to the empty call in the same phase, `to_first` that to the same kind in the first
    phase; None without one.
    """

    phase: str
    kind: str
    calls: int
    audits: float
    busy: float
    p50: float
    p99: float
    to_base: Mapping[str, float | None]
    to_first: Mapping[str, float | None]


PERCENTS = {"p50": 50, "p99": 99}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of the values do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def summarise(measurements: Iterable[Measurement], phases: Sequence[str] = tuple(PHASES)) -> list[Summary]:
    """The summaries in the order of the phases and the kinds."""
    rounds: dict[str, dict[int, Measurement]] = {}
    for each in measurements:
        rounds.setdefault(each.phase, {})[each.round] = each
    return [
        _summary(kind, rounds[phase], rounds.get(phases[0], {}))
        for phase in phases
        if phase in rounds
        for kind in KINDS
    ]


def _summary(kind: str, rounds: Mapping[int, Measurement], first: Mapping[int, Measurement]) -> Summary:
    each = list(rounds.values())
    p50, p99 = (median(_figure(kind, percent)(one) for one in each) for percent in PERCENTS.values())
    return Summary(
        phase=each[0].phase,
        kind=kind,
        calls=sum(len(one.seconds[kind]) for one in each),
        audits=median(one.audits for one in each),
        busy=median(one.busy for one in each),
        p50=p50,
        p99=p99,
        to_base=_ratios(rounds, kind, rounds, BASE),
        to_first=_ratios(rounds, kind, first, kind),
    )


def _ratios(
    over: Mapping[int, Measurement], kind: str, under: Mapping[int, Measurement], other: str
) -> dict[str, float | None]:
    """The medians over the rounds that both have of the ratios of two kinds' percentiles."""
    both = over.keys() & under.keys()
    return {
        name: median(_figure(kind, percent)(over[n]) / _figure(other, percent)(under[n]) for n in both)
        if both
        else None
        for name, percent in PERCENTS.items()
    }


def _figure(kind: str, percent: int) -> Callable[[Measurement], float]:
    return lambda one: percentile(one.seconds[kind], percent)
