# SPDX-License-Identifier: Apache-2.0
"""Signals of the daemon: a handler queues them at any time, and the main thread handles them in order."""

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
"""Queued like a signal when an unhandled exception has ended a thread."""
_DONE = -1
_END = ENDING | {FAILED}

WAKE_SECONDS = 0.5
"""Maximum delay of a signal that the kernel has delivered to another thread."""


class Signals:
    """Installs handlers for the signals of the process. Belongs to the main thread, except for `post`.

    Calls `react` with each signal that does not end the program.
    """

    def __init__(self, react: Callable[[int], None]) -> None:
        self._react = react
        # Not an Event: a handler that interrupts its wait would deadlock. SimpleQueue.put is reentrant.
        self._received: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in HANDLED:
            signal.signal(number, self._enqueue)

    def post(self, number: int) -> None:
        """Queue a number like a signal. Any thread."""
        self._received.put(number)

    def wait_for_end(self) -> int:
        """Handle signals until one ends the program, or FAILED is posted; return that number."""
        while (number := self._next()) not in _END:
            self._react(number)
        return number

    def run(self, name: str, action: Callable[[], T], *, abandon: bool) -> T | None:
        """Run an action in a thread of this name, and handle signals until it is done; return its result.

        With `abandon`, a signal that ends the program also ends the wait: `run` returns None, and the action
        goes on in its daemon thread. Without `abandon`, such a signal is ignored. Raises the action's errors.
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
        """Return the next signal.

        The kernel may deliver a signal to another thread. Python then runs the handler as soon as the main
        thread executes bytecode, so the main thread must not block for long.
        """
        while True:
            try:
                return self._received.get(timeout=WAKE_SECONDS)
            except queue.Empty:
                continue

    def _enqueue(self, number: int, _frame: FrameType | None) -> None:
        self._received.put(number)
