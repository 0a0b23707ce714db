# SPDX-License-Identifier: Apache-2.0
"""The table of tools/test_nova, and what is wrong in it. Pure, but for `show`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.nova import known, recorded
from tests.nova.selection import PREFIX, module_of
from tests.nova.trial import NONE, Outcome

COLUMNS = ("tests", "passed", "failed", "skipped", "audits", "differences", "casts", "dead letters")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that the table does not show: `what` of `mode`, with the reason if it is a known one."""

    mode: str
    what: str
    reason: str | None = None


@dataclass
class Row:
    """A module of Nova's tests in a mode, or all of them."""

    tests: int = 0
    failed: int = 0
    skipped: int = 0
    audits: int = 0
    differences: int = 0
    casts: int = 0
    dead_letters: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count a test."""
        did = outcome.adapter
        self.tests += 1
        self.failed += outcome.failed
        self.skipped += outcome.skipped
        self.audits += did.get("audits_compared", 0)
        self.differences += len(did.get("differences", ()))
        self.casts += did.get("casts", 0)
        self.dead_letters += len(did.get("dead_letters", ()))

    def figures(self) -> tuple[int, ...]:
        """The figures of COLUMNS."""
        passed = self.tests - self.failed - self.skipped
        adapter = (self.audits, self.differences, self.casts, self.dead_letters)
        return (self.tests, passed, self.failed, self.skipped, *adapter)


@dataclass
class Report:
    """What came of all tests. `findings` counts how often each was found."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    totals: dict[str, Row] = field(default_factory=dict)
    findings: Counter[Finding] = field(default_factory=Counter)
    fixture_ms: list[int] = field(default_factory=list)
    compared: list[int] = field(default_factory=list)
    """How many casts of each test were compared with a recorded trace."""

    @property
    def clean(self) -> bool:
        """Whether all that was found is known, and tests were run at all."""
        return bool(self.totals) and all(finding.reason for finding in self.findings)


def report(outcomes: Iterable[Outcome]) -> Report:
    """Count the tests by module and mode, and collect what is wrong."""
    outcomes = list(outcomes)
    failing_alone = {each.test for each in outcomes if each.mode == NONE and each.failed}
    result = Report()
    for outcome in outcomes:
        result.rows.setdefault((module_of(outcome.test), outcome.mode), Row()).add(outcome)
        result.totals.setdefault(outcome.mode, Row()).add(outcome)
        result.findings.update(_findings(outcome, failing_alone))
        result.fixture_ms += [outcome.adapter["fixture_ms"]] if outcome.adapter else []
        result.compared += [len(outcome.adapter["commands"])] if "commands" in outcome.adapter else []
    return result


def _findings(outcome: Outcome, failing_alone: set[str]) -> Iterator[Finding]:
    mode, did, name = outcome.mode, outcome.adapter, outcome.test.removeprefix(PREFIX)
    if outcome.failed:
        yield Finding(mode, f"{name} failed{_last_line(outcome)}", _why_failed(outcome, failing_alone))
    if mode != NONE and not did and not outcome.skipped:
        yield Finding(mode, f"{name}: the adapter was not there")
    for line in did.get("differences", ()):
        yield Finding(mode, f"difference: {line}", known.reason(known.DIFFERENCES, f"{name}: {line}"))
    for letter in did.get("dead_letters", ()):
        where = "{code} at {path}: {message} ({method})".format(**letter)
        yield Finding(mode, f"dead letter in {name}: {where}")
    if "commands" in did:
        for line in recorded.differences(recorded.trace(outcome.test), did["commands"]):
            yield Finding(mode, f"not as recorded: {name}: {line}")
    if did.get("dropped"):
        yield Finding(mode, f"{name}: {did['dropped']} casts were dropped")
    if not did.get("drained", True):
        yield Finding(mode, f"{name}: the worker did not process all casts")


def _why_failed(outcome: Outcome, failing_alone: set[str]) -> str | None:
    if outcome.mode == "replace" and (why := known.reason(known.FAILURES, outcome.test)):
        return why
    return "fails in Nova alone, too" if outcome.mode != NONE and outcome.test in failing_alone else None


def _last_line(outcome: Outcome) -> str:
    lines = outcome.text.strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""


def show(result: Report, console: Console) -> None:
    """Print the table, then what was found, each once with how often; then what the fixture costs."""
    table = Table(box=None, pad_edge=False)
    table.add_column("module", no_wrap=True)
    table.add_column("mode")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for (module, mode), row in sorted(result.rows.items()):
        table.add_row(module, mode, *map(str, row.figures()))
    for mode, row in result.totals.items():
        table.add_row("all", mode, *map(str, row.figures()), style="bold")
    console.print(table)
    for finding, count in sorted(result.findings.items(), key=lambda item: item[0].what):
        why = f"known: {finding.reason}" if finding.reason else "NEW"
        console.print(f"{count:4} {finding.mode}: {finding.what} [{why}]", markup=False, soft_wrap=True)
    if result.compared:
        tests, commands = len(result.compared), sum(result.compared)
        console.print(f"{commands} commands of {tests} tests were compared with their recorded traces")
    if result.fixture_ms:
        console.print(f"the fixture took {median(result.fixture_ms):.0f} ms of a test (median)")
