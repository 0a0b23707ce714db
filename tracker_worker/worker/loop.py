# SPDX-License-Identifier: Apache-2.0
"""The loop of a background thread: a step that is repeated until the worker stops."""

import threading
from collections.abc import Callable

from tracker_worker.worker.threads import worker_thread


class Loop:
    """Owns one thread, which runs `step` every `interval` seconds and whenever it is woken.

    `step` gets whether it was woken. `finish` runs once the loop is stopped. Both run on the loop's thread,
    and `failed` is called on it if one of them raises: a worker cannot do without any of its threads.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[bool], None],
        interval: float,
        failed: Callable[[], None],
        finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._step = step
        self._interval = interval
        self._finish = finish
        self._wakeup = threading.Event()
        self.stopping = threading.Event()
        """Long steps check this event and end early when it is set."""
        self._thread = worker_thread(name, self.run, failed)

    def start(self) -> None:
        """Start the thread; the first step is an interval away, unless the loop is woken."""
        self._thread.start()

    def wake(self) -> None:
        """Have the step run now, or once more after the one that is running. Any thread."""
        self._wakeup.set()

    def stop(self) -> None:
        """End the loop after the step that is running. Any thread."""
        self.stopping.set()
        self._wakeup.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the loop; tells whether it ended within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Repeat the step until the loop is stopped: the body of its thread."""
        while True:
            woken = self._wakeup.wait(self._interval)
            self._wakeup.clear()
            if self.stopping.is_set():
                break
            self._step(woken)
        self._finish()
