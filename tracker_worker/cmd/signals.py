# SPDX-License-Identifier: Apache-2.0
"""Signals of the daemon: noted by a handler wherever the program is, handled by the main thread in order."""

import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

ENDING = frozenset([signal.SIGTERM, signal.SIGINT])
HANDLED = (*ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FAILED = 0
"""Stands among the signals for a thread that ended by an error."""
_DONE = -1
_END = ENDING | {FAILED}


WAKE_SECONDS = 0.5
"""How long a signal may wait that the kernel has given to another thread."""


class Signals:
    """Takes the signals of the process from its creation on. The main thread's, but for `post`.

    `react` is called with each signal that does not end the program.
    """

    def __init__(self, react: Callable[[int], None]) -> None:
        self._react = react
        # Not an Event: a handler that interrupts its wait would deadlock; this queue may be put to anywhere.
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in HANDLED:
            signal.signal(number, self._note)

    def post(self, number: int) -> None:
        """Add what stands among the signals. Any thread."""
        self._received.put(number)

    def wait_for_end(self) -> int:
        """React until a signal ends the program or something failed; returns which."""
        while (number := self._next()) not in _END:
            self._react(number)
        return number

    def run(self, name: str, action: Callable[[], T], *, abandon: bool) -> T | None:
        """Run an action in a thread of this name and react until it is done; returns or raises what it does.

        With `abandon` a signal that ends the program ends the wait, too: returns None, and the action is left
        to its daemon thread. Without, such a signal is ignored.
        """
        result: Future[T] = Future()

        def act() -> None:
            try:
                result.set_result(action())
            except BaseException as error:
                result.set_exception(error)
            self.post(_DONE)

        threading.Thread(target=act, name=name, daemon=True).start()
        while (number := self._next()) != _DONE:
            if number not in _END:
                self._react(number)
            elif abandon:
                return None
        return result.result()

    def _next(self) -> int:
        """Return the next signal. The kernel may give one to another thread while this one handles the last:
        Python then notes it, and only a main thread that runs calls its handler. So it never waits for long.
        """
        while True:
            try:
                return self._received.get(timeout=WAKE_SECONDS)
            except queue.Empty:
                continue

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received.put(number)
