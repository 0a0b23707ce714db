# SPDX-License-Identifier: Apache-2.0
"""The rows of a run: what each fault did, printed as one table at its end."""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import pytest
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # Every run of pytest imports this module: not also what a trial needs.
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
    """What a fault, so many times under a load of so many events, has done.

    `resumed` are the most seconds from when what had been away was back to the next event that was settled.
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
        """What carries it to the end of the run, out of any pytest-xdist worker."""
        return PROPERTY, asdict(self) | {"wrong": list(self.wrong)}


def table(reports: Iterable[pytest.TestReport]) -> str:
    """Return the table of all rows of these reports; empty when there are none."""
    rows = [
        value
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
