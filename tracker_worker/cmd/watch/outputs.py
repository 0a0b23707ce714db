# SPDX-License-Identifier: Apache-2.0
"""Where a watch shows what it receives: a live screen, lines of text, lines of JSON, or one picture.

OSErrors of writing to standard output pass through: `cmd.failures` turns them into an exit code.
"""

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec
from rich.console import Console
from rich.live import Live

from tracker_worker.cmd.failures import print_diagnostic
from tracker_worker.cmd.watch.entries import Entry
from tracker_worker.cmd.watch.picture import Picture
from tracker_worker.cmd.watch.screen import Size, Status, line_of, plain_lines, render
from tracker_worker.core.received_notification import ReceivedNotification
from tracker_worker.core.terminal import escaped_json

PROGRAM = "tracker-worker-watch"
DRAW_SECONDS = 0.25


class Output(Protocol):
    """An output; all calls come from one thread."""

    def show(self, notification: ReceivedNotification, entries: list[Entry]) -> None:
        """Show a notification that is selected, by its text or by its entries."""
        ...

    def report(self, entry: Entry) -> None:
        """Show what the watch reports of a server: its `node` is the server."""
        ...

    def refresh(self, picture: Picture, status: Status, now: float) -> None:
        """Show what is not shown yet. Called a few times a second, and after each batch."""
        ...


class Lines:
    """A line for each entry. Reports about servers go to standard error."""

    def show(self, notification: ReceivedNotification, entries: list[Entry]) -> None:
        """Write the entries; a repetition has none."""
        for entry in entries:
            sys.stdout.write(line_of(entry) + "\n")

    def report(self, entry: Entry) -> None:
        """Print the report on standard error."""
        print_diagnostic(PROGRAM, f"{entry.node}: {entry.text}")

    def refresh(self, picture: Picture, status: Status, now: float) -> None:
        """Flush what was written. Raises BrokenPipeError if the reader has closed the pipe."""
        sys.stdout.flush()
        refuse_closed_pipe(sys.stdout.fileno())


class JsonLines(Lines):
    """The JSON of each notification on a line, repetitions included."""

    def show(self, notification: ReceivedNotification, entries: list[Entry]) -> None:
        """Write the notification as it came; only invisible characters and line breaks are rewritten."""
        text = notification.text
        if "\n" in text:
            text = msgspec.json.format(text, indent=-1)
        sys.stdout.write(escaped_json(text) + "\n")


class Once:
    """Nothing until `print_picture`."""

    def show(self, notification: ReceivedNotification, entries: list[Entry]) -> None:
        """Show nothing."""

    def report(self, entry: Entry) -> None:
        """Print the report on standard error."""
        print_diagnostic(PROGRAM, f"{entry.node}: {entry.text}")

    def refresh(self, picture: Picture, status: Status, now: float) -> None:
        """Show nothing."""


class Screen:
    """A terminal that is drawn again every DRAW_SECONDS at most, however many notifications arrive."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._next = 0.0
        self._urgent = True

    def show(self, notification: ReceivedNotification, entries: list[Entry]) -> None:
        """Show nothing: the picture has it."""

    def report(self, entry: Entry) -> None:
        """Have the screen drawn at once."""
        self._urgent = True

    def refresh(self, picture: Picture, status: Status, now: float) -> None:
        """Draw the picture, if it is time."""
        if now < self._next and not self._urgent:
            return
        self._next, self._urgent = now + DRAW_SECONDS, False
        size = Size(self._console.width, self._console.height)
        self._live.update(render(picture, status, size, now), refresh=True)


@contextmanager
def screen() -> Iterator[Screen]:
    """Yield the screen of the terminal; what was on it before comes back at the end."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield Screen(console, live)


def is_screen_possible() -> bool:
    """Tell whether standard output is a terminal that can be drawn on."""
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def print_picture(picture: Picture, status: Status, now: float) -> None:
    """Print a picture with all of its nodes."""
    console = Console()
    if console.is_terminal:
        console.print(render(picture, status, Size(console.width), now))
    else:
        sys.stdout.writelines(f"{line}\n" for line in plain_lines(picture, status, now))


def refuse_closed_pipe(descriptor: int) -> None:
    """Raise BrokenPipeError if nothing reads a pipe any more, although nothing is written to it."""
    pipe = select.poll()
    pipe.register(descriptor, 0)  # Errors are always reported.
    if any(event & select.POLLERR for _, event in pipe.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
