# SPDX-License-Identifier: Apache-2.0
"""What the tables of a cluster run count, and when the run is clean."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.nova.cluster.report import Report, report, show

BOOTED = {"operation": "boot", "server": "a", "outcome": "done"}
AGREED: dict[str, Any] = {
    "event": "agreement",
    "dropped": 0,
    "kept": [],
    "compared": {"compute_nodes and ledger": 44},
    "differences": [],
}
DIFFERENCE = ["compute_nodes and ledger", "numa vcpus_used: 3, 4 in the ledger"]
ENDED = {"event": "ended", "seconds": 61.2}


def shown(result: Report) -> str:
    text = StringIO()
    show(result, {"a worker": 3}, {"a worker": 12.4}, Console(file=text, width=150))
    return text.getvalue()


def test_table_counts_operations_by_outcome() -> None:
    failed = {"operation": "resize", "server": "a", "outcome": "ERROR", "why": "no disk"}
    text = shown(report([BOOTED, BOOTED, failed, ENDED, AGREED]))
    assert "2 servers, 61 s" in text
    assert "ERROR: resize of a: no disk" in text
    assert "a worker      3      12" in text


def test_run_is_clean_when_all_agree() -> None:
    assert report([BOOTED, ENDED, AGREED]).clean


@pytest.mark.parametrize("outcome", ["ERROR", "stuck"])
def test_run_with_a_server_in_error_is_not_clean(outcome: str) -> None:
    assert not report([BOOTED, BOOTED | {"outcome": outcome}, AGREED]).clean


def test_run_with_an_operation_that_nova_gave_up_is_clean() -> None:
    assert report([BOOTED, BOOTED | {"outcome": "unchanged"}, AGREED]).clean


def test_run_with_a_difference_is_not_clean_and_shows_it() -> None:
    result = report([BOOTED, AGREED | {"differences": [DIFFERENCE]}])
    assert not result.clean
    assert ": ".join(DIFFERENCE) in shown(result)


def test_device_that_nova_kept_is_shown_and_no_difference() -> None:
    """A fault of Nova alone: tests/nova/inside/check_nova_alone.py."""
    result = report([BOOTED, AGREED | {"kept": ["numa 0000:81:00.4 of a"]}])
    assert result.clean
    assert "Nova had kept a device of an evacuated server: numa 0000:81:00.4 of a" in shown(result)


def test_run_without_a_comparison_is_not_clean() -> None:
    assert not report([BOOTED, ENDED]).clean
