# SPDX-License-Identifier: Apache-2.0
"""The rows of a run: what each fault did, printed as one table at its end."""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # Every run of pytest imports this module, so it must not import what a trial needs.
    from tests.delivery.oracle import Verdict

PROPERTY = "chaos"
COLUMNS = (
    "times",
    "events",
    "lost",
    "twice",
    "inversions",
    "half",
    "missing",
    "parked",
    "resumed",
    "seconds",
)


@dataclass(frozen=True)
class Row:
    """The result of a fault that occurred `times` times under a load of `events` events.

    `resumed` is the longest time, in seconds, from the end of an outage to the next settled event.
    """

    fault: str
    times: int
    events: int
    lost: int
    twice: int
    inversions: int
    half: int
    missing: int
    parked: int
    seconds: float
    wrong: tuple[str, ...] = ()
    resumed: float | None = None

    @classmethod
    def of(
        cls,
        fault: str,
        times: int,
        events: int,
        seen: "Verdict",
        seconds: float,
        resumed: float | None = None,
    ) -> Self:
        """The row of a verdict."""
        figures = (seen.lost, seen.twice, seen.inversions, seen.half, seen.missing, seen.parked)
        return cls(fault, times, events, *figures, seconds, seen.wrong, resumed)

    @property
    def clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not any((self.lost, self.twice, self.inversions, self.half, self.missing, self.parked)) and (
            not self.wrong
        )

    def as_property(self) -> tuple[str, dict[str, object]]:
        """The property of a report by which the row reaches the end of the run, also under pytest-xdist."""
        return PROPERTY, asdict(self) | {"wrong": list(self.wrong)}


def table(reports: Iterable[pytest.TestReport]) -> str:
    """Return the table of all rows of these reports; empty when there are none."""
    rows = [
        cast(dict[str, Any], value)
        for report in reports
        for name, value in report.user_properties
        if name == PROPERTY and report.when == "call"
    ]
    if not rows:
        return ""
    drawn = Table("fault", box=None, pad_edge=False)
    for column in COLUMNS:
        drawn.add_column(column, justify="right")
    for row in rows:
        drawn.add_row(
            row["fault"], *("-" if row[column] is None else f"{row[column]:.0f}" for column in COLUMNS)
        )
    text = io.StringIO()
    Console(file=text, width=140, highlight=False).print(drawn)
    return text.getvalue()
