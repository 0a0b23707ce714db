# SPDX-License-Identifier: Apache-2.0
"""What is reported of a run: a line for each measurement, and JSON."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.throughput.figures import Measurement, Summary


def line(run: Measurement) -> str:
    """One run in a line."""
    wrong = f", WRONG: {'; '.join(run.wrong[:4])}" if run.wrong else ""
    return (
        f"round {run.round}, {run.scenario} on {run.database}, {run.contestant}: {run.events} events in "
        f"{run.seconds:.1f} s, {run.cpu_seconds / run.events * 1e6:,.0f} us of CPU an event{wrong}"
    )


def report(found: Sequence[Measurement], summaries: Sequence[Summary]) -> dict[str, Any]:
    """What is written as JSON."""
    return {
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "python": sys.version},
        "summaries": [asdict(each) for each in summaries],
        "measurements": [asdict(each) for each in found],
    }
