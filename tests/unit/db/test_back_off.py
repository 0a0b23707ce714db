# SPDX-License-Identifier: Apache-2.0
"""The pauses between attempts, and what ends them."""

import threading
from collections.abc import Callable

import pytest
from tenacity import RetryCallState, retry_if_exception_type, stop_after_attempt

from tracker_worker.db.back_off import retrying_with_back_off

SHORT = 0.0001


class Away(Exception):
    """The server is away; the argument numbers the attempt."""


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

    retrying = retrying_with_back_off(
        retry_if_exception_type(Away),
        threading.Event(),
        initial=initial,
        most=most,
        before_sleep=before_sleep,
        stop=stop_after_attempt(attempts),
    )
    with pytest.raises(Away, match=str(attempts)):
        retrying(failing())
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

    retrying = retrying_with_back_off(
        retry_if_exception_type(Away), abandoned, initial=SHORT, most=SHORT, before_sleep=before_sleep
    )
    with pytest.raises(Away, match="4"):
        retrying(failing())


def never(state: RetryCallState) -> None:
    pytest.fail(f"tried again after {state.outcome}")


def test_other_errors_are_not_tried_again() -> None:
    retrying = retrying_with_back_off(
        retry_if_exception_type(Away), threading.Event(), initial=1, most=1, before_sleep=never
    )
    with pytest.raises(KeyError):
        retrying({}.__getitem__, "absent")
