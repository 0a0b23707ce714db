# SPDX-License-Identifier: Apache-2.0
"""Background threads. An unhandled exception in one is logged and stops the worker."""

import logging
import threading
from collections.abc import Callable

from tracker_worker.bus.rabbit.queues import TopologyMismatch

LOG = logging.getLogger(__name__)


def worker_thread(name: str, run: Callable[[], None], failed: Callable[[], None]) -> threading.Thread:
    """Return a thread that is not started. If `run` raises, the thread logs it and calls `failed`."""

    def guarded() -> None:
        try:
            run()
            return
        except BaseException as error:
            failure = error
        try:  # Outside of `except`: oslo.log adds the error that is being handled.
            if isinstance(failure, TopologyMismatch):
                LOG.critical("%s", failure)
            else:
                LOG.critical("Thread %s ended by an unexpected error", name, exc_info=failure)
        finally:  # A handler of the log may raise.
            failed()

    return threading.Thread(target=guarded, name=name, daemon=True)
