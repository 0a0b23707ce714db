# SPDX-License-Identifier: Apache-2.0
"""What a process has used so far, from /proc."""

import re
from pathlib import Path
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """CPU time of all threads, user and system, in seconds; the most memory that was resident, in bytes."""

    cpu_seconds: float
    peak_bytes: int


def usage_of(pid: int) -> Usage:
    """What a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert peak is not None
    return Usage(times.user + times.system, int(peak[1]) * 1024)
