# SPDX-License-Identifier: Apache-2.0
"""Progress of a command, on standard error: a bar on a terminal, elsewhere a line every ten seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BAR_SECONDS = 2.0
"""How long a command of unknown length runs before a terminal shows its progress."""
LINE_SECONDS = 10.0

Advance = Callable[[int], None]


@contextmanager
def progress_bar(total: int, description: str, unit: str) -> Iterator[Advance]:
    """Show how many of `total` units are done. Yield a function that adds to them. Any thread."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(total, description, unit) as advance:
        yield advance


@contextmanager
def elapsed_time(description: str) -> Iterator[None]:
    """Show how long the block has been running, if nothing says how much of it is left."""
    done = threading.Event()
    show = _show_elapsed if sys.stderr.isatty() else _print_elapsed
    thread = threading.Thread(target=show, args=(description, done), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show_elapsed(description: str, done: threading.Event) -> None:
    if done.wait(BAR_SECONDS):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(description), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(description, total=None)
        done.wait()


def _print_elapsed(description: str, done: threading.Event) -> None:
    started = time.monotonic()
    while not done.wait(LINE_SECONDS):
        print(f"{description}: {time.monotonic() - started:.0f} s", file=sys.stderr)


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
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
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
