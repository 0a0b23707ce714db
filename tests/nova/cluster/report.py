# SPDX-License-Identifier: Apache-2.0
"""The tables of tools/nova_cluster. Pure, but for `show`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

OUTCOMES = ("done", "unchanged", "ERROR", "stuck")

Json = dict[str, Any]


@dataclass
class Report:
    """What came of a run. `others` are the operations that were not done."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    others: list[Json] = field(default_factory=list)
    seconds: float = 0.0
    agreement: Json | None = None

    @property
    def servers(self) -> int:
        """How many servers were booted."""
        return self.outcomes.get("boot", Counter()).total()

    @property
    def clean(self) -> bool:
        """Whether all agree, and no server is in ERROR or stuck."""
        failed = any(counts["ERROR"] or counts["stuck"] for counts in self.outcomes.values())
        agreed = self.agreement is not None and not self.agreement["differences"]
        return agreed and not failed and bool(self.servers)


def report(lines: Iterable[Json]) -> Report:
    """Count the lines that a run has written."""
    result = Report()
    for line in lines:
        if "operation" in line:
            result.outcomes.setdefault(line["operation"], Counter())[line["outcome"]] += 1
            result.others += [line] if line["outcome"] != "done" else []
        elif line["event"] == "ended":
            result.seconds = line["seconds"]
        elif line["event"] == "agreement":
            result.agreement = line
    return result


def show(
    result: Report, caused: Mapping[str, int], seconds_away: Mapping[str, float], console: Console
) -> None:
    """Print the tables, then each operation that was not done and each difference."""
    console.print(f"{result.servers} servers, {result.seconds:.0f} s")
    operations = _table("operation", *OUTCOMES)
    for name, counts in result.outcomes.items():
        operations.add_row(name, *(str(counts[outcome]) for outcome in OUTCOMES))
    console.print(operations)
    console.print()
    faults = _table("killed", "times", "s away")
    for name, times in caused.items():
        faults.add_row(name, str(times), f"{seconds_away[name]:.0f}")
    console.print(faults)
    console.print()
    _show_agreement(result, console)
    for line in result.others:
        console.print("{outcome}: {operation} of {server}: {why}".format(**{"why": ""} | line), markup=False)


def _show_agreement(result: Report, console: Console) -> None:
    if result.agreement is None:
        console.print("The run did not come to the comparison")
        return
    differences = Counter(what for what, _ in result.agreement["differences"])
    table = _table("compared after the last audits", "fields", "differences")
    for what, fields in result.agreement["compared"].items():
        table.add_row(what, str(fields), str(differences[what]))
    console.print(table)
    if result.agreement["dropped"]:
        console.print(f"{result.agreement['dropped']} casts were dropped")
    for each in result.agreement["kept"]:
        console.print(f"Nova had kept a device of an evacuated server: {each}", markup=False)
    for what, line in result.agreement["differences"]:
        console.print(f"{what}: {line}", markup=False)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in others:
        table.add_column(column, justify="right")
    return table
