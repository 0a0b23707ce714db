# SPDX-License-Identifier: Apache-2.0
"""The one retry policy: what fails is tried again after pauses that double up to a limit, with jitter.

Connecting at the start (`db.engine`), the lanes' transactions (`worker.retries`) and the relay all use it.
"""

import threading
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, stop_any, stop_when_event_set, wait_exponential, wait_random
from tenacity.nap import sleep_using_event
from tenacity.retry import retry_base
from tenacity.stop import stop_base, stop_never


def retrying_with_back_off(
    retry: retry_base,
    abandoned: threading.Event,
    *,
    initial: float,
    most: float,
    before_sleep: Callable[[RetryCallState], None],
    stop: stop_base = stop_never,
) -> Retrying:
    """Return attempts with pauses that double from `initial` to `most` seconds, with jitter.

    The pauses are equal where `initial` is `most`. Ends with the error met last, as soon as `abandoned` is
    set or `stop` says so. Runs on the caller's thread.
    """
    # wait_exponential_jitter takes `multiplier` since tenacity 9.2 only, which deprecates `initial`.
    pause = wait_exponential(multiplier=initial, max=most) + wait_random(0, initial)
    return Retrying(
        retry=retry,
        wait=lambda state: min(pause(state), most),
        stop=stop_any(stop_when_event_set(abandoned), stop),
        sleep=sleep_using_event(abandoned),
        before_sleep=before_sleep,
        reraise=True,
    )
