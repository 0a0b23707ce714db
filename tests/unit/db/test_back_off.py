# SPDX-License-Identifier: Apache-2.0
"""The pauses between attempts, and what ends them."""

import gc
import threading
from collections.abc import Callable
from functools import partial

import pytest
from tenacity import RetryCallState, stop_after_attempt

from tracker_worker.db.back_off import attempts_with_back_off, result_of

SHORT = 0.0001
NEVER = threading.Event()


class Away(Exception):
    """The server is away; the argument numbers the attempt."""


def is_away(error: BaseException) -> bool:
    """Whether the server is away."""
    return isinstance(error, Away)


def failing() -> Callable[[], None]:
    """An action that fails, each time with a number of its own."""
    calls = iter(range(1, 100))

    def action() -> None:
        raise Away(next(calls))

    return action


def pauses(initial: float, most: float, attempts: int) -> list[float]:
    """The pauses of an action that fails as often as it is tried."""
    seen: list[float] = []

    def before_sleep(state: RetryCallState) -> None:
        seen.append(state.upcoming_sleep)

    tried = attempts_with_back_off(
        is_away,
        NEVER,
        initial=initial,
        most=most,
        before_sleep=before_sleep,
        stop=stop_after_attempt(attempts),
    )
    with pytest.raises(Away, match=str(attempts)):
        result_of(tried, failing())
    return seen


def test_pauses_double_with_jitter_up_to_the_limit() -> None:
    seen = pauses(SHORT, 8 * SHORT, 7)
    for number, pause in enumerate(seen):
        assert min(2**number, 8) * SHORT <= pause <= min(2**number + 1, 8) * SHORT


def test_pauses_are_equal_where_the_limit_is_the_first() -> None:
    assert pauses(SHORT, SHORT, 5) == [SHORT] * 4


def test_abandoned_retry_ends_with_the_error_met_last() -> None:
    abandoned = threading.Event()

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 3:
            abandoned.set()

    attempts = attempts_with_back_off(
        is_away, abandoned, initial=SHORT, most=SHORT, before_sleep=before_sleep
    )
    with pytest.raises(Away, match="4"):
        result_of(attempts, failing())


def never(state: RetryCallState) -> None:
    pytest.fail(f"tried again after {state.outcome}")


def test_other_errors_are_not_tried_again() -> None:
    attempts = attempts_with_back_off(is_away, NEVER, initial=1, most=1, before_sleep=never)
    with pytest.raises(KeyError):
        result_of(attempts, partial(dict[str, int]().__getitem__, "absent"))


def test_what_works_at_once_leaves_nothing_to_the_garbage_collector() -> None:
    """Callers of other nodes would see its pause, after some hundreds of batches."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            attempts = attempts_with_back_off(is_away, NEVER, initial=1, most=1, before_sleep=never)
            result_of(attempts, lambda: None)
        assert gc.collect() == 0
    finally:
        gc.enable()
