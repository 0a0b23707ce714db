# SPDX-License-Identifier: Apache-2.0
"""Measures the series: the sizes take turns, round by round."""

from collections.abc import Callable, Mapping
from itertools import product
from statistics import median
from typing import TypeVar

from tests.benchmarks.growth.figures import Growth, growth_of
from tests.benchmarks.growth.filled import fill, stagger
from tests.benchmarks.growth.series import COSTS, OURS, SERIES, unwrapped
from tests.benchmarks.throughput.figures import Measurement, Run, cpu_of
from tests.benchmarks.throughput.messages import Scenario
from tests.benchmarks.throughput.run import measure
from tests.benchmarks.throughput.scenarios import Plan
from tests.benchmarks.throughput.servers import Servers

DATABASE = "postgresql"
Key = TypeVar("Key", int, str)


class Bench:
    """Measures plans on copies of databases, each filled once. `show` gets a line for each run."""

    def __init__(self, servers: Servers, rounds: int, size: float, show: Callable[[str], None]) -> None:
        self._servers = servers
        self._rounds = rounds
        self._size = size
        self._show = show
        self._templates: dict[Scenario, str] = {}

    def growth(self, name: str) -> Growth:
        """Measure a series."""
        return growth_of(name, self._measure(name, SERIES[name].plans))

    def costs(self) -> dict[str, float]:
        """Return the median CPU seconds of the messages of COSTS."""
        return {name: median(map(cpu_of, runs)) for name, runs in self._measure("costs", COSTS).items()}

    def _measure(self, name: str, plans: Mapping[Key, Plan]) -> dict[Key, list[Measurement]]:
        runs: dict[Key, list[Measurement]] = {key: [] for key in plans}
        for turn, (key, plan) in product(range(1, self._rounds + 1), plans.items()):
            events = max(1, round(plan.counts[OURS] * self._size))
            template = self._template(unwrapped(plan.scenario))
            run = measure(self._servers, template, Run(name, DATABASE, OURS, turn, events), plan)
            runs[key].append(run)
            self._show(f"round {turn}, {name}, {plan.title}: {cpu_of(run) * 1e6:,.0f} us an event")
        return runs

    def _template(self, scenario: Scenario) -> str:
        if scenario not in self._templates:
            url = self._servers.new_database(DATABASE)
            fill(url, scenario.first)
            stagger(url)
            self._templates[scenario] = url
        return self._templates[scenario]
