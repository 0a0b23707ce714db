# SPDX-License-Identifier: Apache-2.0
"""The one retry policy: what fails is tried again after pauses that double up to a limit, with jitter.

Connecting at the start (`db.engine`), the lanes' transactions (`worker.retries`) and the relay all use it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_any,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_base, stop_never

T = TypeVar("T")
Attempts = Iterator[AbstractContextManager[Any]]


def attempts_with_back_off(
    passes: Callable[[BaseException], bool],
    abandoned: threading.Event,
    *,
    initial: float,
    most: float,
    before_sleep: Callable[[RetryCallState], None],
    stop: stop_base = stop_never,
) -> Attempts:
    """Yield attempts, each the context of an action; pauses double from `initial` to `most` seconds,
    with jitter. Ends after the first attempt that works.

    The pauses are equal where `initial` is `most`. Ends with the error met last once `abandoned` is set,
    which ends a pause and allows one attempt more, or `stop` says so, or with an error that does not pass by
    itself. Runs on the caller's thread.
    """
    # Most actions work at once. What tenacity makes for a call refers to itself: it costs as much as a small
    # statement, and waits for the garbage collector, whose pause a caller would see.
    first = _FirstAttempt()
    yield first
    if first.failure is None:
        return
    # wait_exponential_jitter takes `multiplier` since tenacity 9.2 only, which deprecates `initial`.
    pause = wait_exponential(multiplier=initial, max=most) + wait_random(0, initial)
    retrying = Retrying(
        retry=retry_if_exception(passes),
        wait=lambda state: min(pause(state), most),
        stop=stop_any(stop_when_event_set(abandoned), stop),
        sleep=sleep_using_event(abandoned),
        before_sleep=before_sleep,
        reraise=True,
    )
    attempts = iter(retrying)
    with next(attempts):
        raise first.failure
    yield from attempts


class _FirstAttempt(AbstractContextManager[None]):
    """Keeps the error of an action."""

    failure: Exception | None = None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failure = error
        return True


def result_of(attempts: Attempts, action: Callable[[], T]) -> T:
    """Return what an action returns at the first attempt that works. Raises the error that ends them."""
    for attempt in attempts:
        with attempt:
            return action()
    raise AssertionError("attempts end with one that works, or with an error")
