# SPDX-License-Identifier: Apache-2.0
"""The report of a replay counts refused and ignored commands by reason."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from rich.console import Console

from tracker_worker.cmd.replay.report import print_summary
from tracker_worker.cmd.replay.trace import Header, Result, Step, Trace


class Replayed(Struct):
    """A trace whose commands had these results."""

    trace: Trace
    results: list[Result]
    fullest: list[dict[str, Any]] = []


class Received:
    """No notification."""

    types: Counter[str] = Counter()
    corrections: Counter[tuple[str, str]] = Counter()


def report_of(*results: Result) -> str:
    steps = [Step("abort_instance_claim", {"node": "n"}) for _ in results]
    written = io.StringIO()
    console = Console(file=written, width=100)
    replayed = Replayed(Trace(Path("x.jsonl"), Header("x"), steps), list(results))
    print_summary(console, [replayed], Received(), 0, 1.0)
    return written.getvalue()


@pytest.mark.parametrize(
    ("outcome", "title"), [("refused", "Refusals"), ("ignored", "Ignored, with a reason")]
)
def test_reasons_are_counted(outcome: str, title: str) -> None:
    text = report_of(*[Result(outcome, "Node n is not tracked", {})] * 2)
    assert title in text
    (line,) = (line for line in text.splitlines() if "Node n is not tracked" in line)
    assert "2" in line


def test_repeated_command_has_no_reason_to_count() -> None:
    assert "Ignored, with" not in report_of(Result("ignored", None, {}))
