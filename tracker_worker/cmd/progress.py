# SPDX-License-Identifier: Apache-2.0
"""Progress of a command, on standard error: a bar on a terminal, elsewhere a line every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 10.0

Advance = Callable[[int], None]


@contextmanager
def progress_bar(total: int, description: str, unit: str) -> Iterator[Advance]:
    """Show how many of `total` units are done. Yield a function that adds to them. Any thread."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(total, description, unit) as advance:
        yield advance


@contextmanager
def _bar(total: int, description: str, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def _lines(total: int, description: str, unit: str) -> Iterator[Advance]:
    done = 0
    started = time.monotonic()
    next_line = started + LINE_SECONDS

    def advance(count: int) -> None:
        nonlocal done, next_line
        done += count
        now = time.monotonic()
        if now >= next_line:
            next_line = now + LINE_SECONDS
            left = (now - started) / done * (total - done) if done else 0
            print(f"{description}: {done} of {total} {unit}, about {left:.0f} s left", file=sys.stderr)

    yield advance
