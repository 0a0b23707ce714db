# SPDX-License-Identifier: Apache-2.0
"""The figures of measurements: rates and costs, their medians over the rounds, and ratios. Pure.

A ratio is the median of the rounds' ratios: the runs of a round are neighbours, and share what else the
machine does.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

OURS = "worker"


@dataclass(frozen=True)
class Run:
    """What is run: a contestant in a scenario on a kind of database, with so many messages."""

    scenario: str
    database: str
    contestant: str
    round: int
    events: int


@dataclass(frozen=True)
class Measurement(Run):
    """A run's figures. `wrong` says what the contestant did not do right: they are of no use then."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    wrong: Sequence[str]


@dataclass(frozen=True)
class Summary:
    """The medians of a contestant's rounds in a scenario. CPU is of the process, in seconds an event.

    The ratios are by which factor tracker-worker is faster by wall, and takes less CPU; None where it takes
    no part.
    """

    scenario: str
    database: str
    contestant: str
    events: int
    rate: float
    cpu: float
    peak_bytes: float
    by_wall: float | None
    by_cpu: float | None
    wrong: Sequence[str]


def rate_of(measurement: Measurement) -> float:
    """Events a second."""
    return measurement.events / measurement.seconds


def cpu_of(measurement: Measurement) -> float:
    """Seconds of CPU an event."""
    return measurement.cpu_seconds / measurement.events


def summarise(measurements: Iterable[Measurement]) -> list[Summary]:
    """The summaries of scenarios, databases and contestants, in the order of the first round."""
    groups: dict[tuple[str, str], dict[str, list[Measurement]]] = {}
    for each in measurements:
        groups.setdefault((each.scenario, each.database), {}).setdefault(each.contestant, []).append(each)
    return [_summary(rounds, group.get(OURS, [])) for group in groups.values() for rounds in group.values()]


def _summary(rounds: Sequence[Measurement], ours: Sequence[Measurement]) -> Summary:
    first = rounds[0]
    return Summary(
        scenario=first.scenario,
        database=first.database,
        contestant=first.contestant,
        events=first.events,
        rate=median(map(rate_of, rounds)),
        cpu=median(map(cpu_of, rounds)),
        peak_bytes=median(each.peak_bytes for each in rounds),
        by_wall=ratio(ours, rounds, rate_of),
        by_cpu=ratio(rounds, ours, cpu_of),
        wrong=[fault for each in rounds for fault in each.wrong],
    )


def ratio(
    over: Sequence[Measurement], under: Sequence[Measurement], figure: Callable[[Measurement], float]
) -> float | None:
    """The median over the rounds of the ratio of a figure; None without a round that both have."""
    others = {each.round: figure(each) for each in under}
    ratios = [figure(each) / others[each.round] for each in over if others.get(each.round)]
    return median(ratios) if ratios else None
