# SPDX-License-Identifier: Apache-2.0
"""What a cast queue logs while nothing can be sent: a line at first, each WARN_SECONDS, and at the end."""

import logging
from collections.abc import Callable
from contextlib import suppress

LOG = logging.getLogger(__name__)

WARN_SECONDS = 60.0


class CastLog:
    """Logs the outages of one cast queue. `monotonic` is a clock in seconds that is never set back.

    The sender thread calls it, or, while none runs, the thread that tries to start one. Raises nothing: what
    a handler of the log raises, as oslo.log's for journald does, must not end the sender thread.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next_warning: float | None = None
        self._is_started = True

    def unreachable(self, casts: int, audits: int) -> None:
        """Note that something could not be sent; so many wait, it included."""
        now = self._monotonic()
        if self._next_warning is None or now >= self._next_warning:
            self._next_warning = now + WARN_SECONDS
            with suppress(Exception):
                LOG.warning("Cannot reach the worker: %d casts and %d audits wait", casts, audits)

    def reached(self) -> None:
        """Note that something was sent."""
        if self._next_warning is not None:
            self._next_warning = None
            with suppress(Exception):
                LOG.info("The worker is reached again: what waits is sent now")

    def failed(self) -> None:
        """Note that a job raised the error that is being handled, and is dropped."""
        with suppress(Exception):
            LOG.exception("A cast to the worker failed and is dropped: the next audit corrects the ledger")

    def started(self) -> None:
        """Note that a sender thread was started."""
        self._is_started = True

    def not_started(self, error: RuntimeError) -> None:
        """Note that no sender thread can be started."""
        was_started, self._is_started = self._is_started, False
        if was_started:
            with suppress(Exception):
                LOG.error("No thread can be started to send casts: they wait for the next attempt: %s", error)
