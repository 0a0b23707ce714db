# SPDX-License-Identifier: Apache-2.0
"""The report of a replay: outcomes, fullest nodes, refusals, corrections, notifications and the rate."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tracker_worker.cmd.replay.trace import Result, Trace
from tracker_worker.core.records import PARKED
from tracker_worker.core.terminal import escaped
from tracker_worker.domain.decision import Outcome

MAX_ROWS = 10
_OUTCOMES = (*(outcome.value for outcome in Outcome), PARKED)


class TraceReport(Protocol):
    """A trace with its results and its fullest nodes."""

    @property
    def trace(self) -> Trace:
        """The trace."""
        ...

    @property
    def results(self) -> list[Result]:
        """One result for each step."""
        ...

    @property
    def fullest(self) -> list[dict[str, Any]]:
        """Views of the fullest nodes after the replay."""
        ...


class Received(Protocol):
    """Counts of the notifications that were received, and of the corrections in them."""

    types: Counter[str]
    corrections: Counter[tuple[str, str]]


def print_summary(
    console: Console,
    replayed: Sequence[TraceReport],
    received: Received,
    published: int,
    seconds: float,
) -> None:
    """Print the report: tables, then a line with totals."""
    commands = sum(len(one.results) for one in replayed)
    console.print(_outcomes(replayed))
    console.print(_fullest(replayed))
    for outcome, title in ((Outcome.REFUSED, "Refusals"), (Outcome.IGNORED, "Ignored, with a reason")):
        if reasons := _reasons(replayed, outcome):
            console.print(_counted(title, ("reason",), reasons))
    if received.corrections:
        title = "Corrections by audits"
        console.print(_counted(title, ("action", "reason"), received.corrections))
    counts = {(event_type,): count for event_type, count in received.types.items()}
    console.print(_counted("Notifications received", ("event type",), counts))
    console.print(
        f"{len(replayed)} traces, {commands} commands in {seconds:.1f} s"
        f" ({commands / seconds:.0f} a second, start and stop included);"
        f" {received.types.total()} of {published} notifications received"
    )


def _reasons(replayed: Sequence[TraceReport], outcome: Outcome) -> dict[tuple[str], int]:
    """Return the number of results with an outcome, by their reason; those without one are left out."""
    results = (result for one in replayed for result in one.results if result.outcome == outcome)
    return dict(Counter((result.reason,) for result in results if result.reason))


def _outcomes(replayed: Sequence[TraceReport]) -> Table:
    counts = Counter(
        (step.method, result.outcome)
        for one in replayed
        for step, result in zip(one.trace.steps, one.results, strict=True)
    )
    table = Table("method", *(Column(outcome, justify="right") for outcome in _OUTCOMES), title="Outcomes")
    for method in sorted({method for method, _ in counts}):
        table.add_row(_text(method), *(str(counts[method, outcome] or "") for outcome in _OUTCOMES))
    return table


def _fullest(replayed: Sequence[TraceReport]) -> Table:
    table = Table("trace", "node", title="Fullest nodes at the end")
    for column in ("vcpus", "memory MB", "disk GB", "instances", "claims"):
        table.add_column(column, justify="right")
    views = [(view, _short_name(one.trace)) for one in replayed for view in one.fullest]
    for view, name in sorted(views, key=lambda pair: fullness(pair[0]), reverse=True)[:MAX_ROWS]:
        table.add_row(
            _text(name),
            _text(view["name"]),
            f"{view['vcpus_used']}/{view['vcpus']}",
            f"{view['memory_mb_used']}/{view['memory_mb']}",
            f"{view['local_gb_used']}/{view['local_gb']}",
            str(view["running_vms"]),
            str(len(view["claims"])),
        )
    return table


def _short_name(trace: Trace) -> str:
    """Return the distinctive part of a trace's file name."""
    return trace.path.name.split(".jsonl")[0].rsplit(".", 1)[-1].removeprefix("nova-tracker-")


def fullness(view: dict[str, Any]) -> float:
    """Return the usage of a node's scarcest resource, as a fraction."""
    pairs = (("vcpus_used", "vcpus"), ("memory_mb_used", "memory_mb"), ("local_gb_used", "local_gb"))
    return max(view[used] / view[total] if view[total] else 0.0 for used, total in pairs)


def _counted(title: str, columns: Sequence[str], counts: dict[Any, int]) -> Table:
    table = Table(*columns, title=title)
    table.add_column("count", justify="right")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for key, count in ordered[:MAX_ROWS]:
        table.add_row(*map(_text, key), str(count))
    if len(ordered) > MAX_ROWS:
        rest = [f"and {len(ordered) - MAX_ROWS} more", *("" for _ in columns[1:])]
        table.add_row(*rest, str(sum(count for _, count in ordered[MAX_ROWS:])))
    return table


def _text(value: str) -> Text:
    """Return a text for a table cell, without markup and with its control characters escaped."""
    return Text(escaped(value))
