# SPDX-License-Identifier: Apache-2.0
"""A progress bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


@contextmanager
def shown_progress(console: Console, total: int, doing: str, things: str) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` things are done; the function yielded takes the number of new ones.

    Any thread.
    """
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(things),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        next_line = time.monotonic() + LINE_SECONDS

        def advance(count: int) -> None:
            nonlocal next_line
            progress.advance(task, count)
            if not console.is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + LINE_SECONDS
                done = int(progress.tasks[task].completed)
                console.print(f"{done} of {total} {things}")

        yield advance
