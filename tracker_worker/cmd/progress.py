# SPDX-License-Identifier: Apache-2.0
"""Progress of a command: a bar on a terminal, elsewhere a line every ten seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


@contextmanager
def progress_bar(
    console: Console, total: int, description: str, unit: str
) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` units are done. Yield a function that adds to them. Any thread."""
    columns = (
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        next_line = time.monotonic() + LINE_SECONDS

        def advance(count: int) -> None:
            nonlocal next_line
            progress.advance(task, count)
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + LINE_SECONDS
                done = int(progress.tasks[task].completed)
                console.print(f"{done} of {total} {unit}")

        yield advance
