# SPDX-License-Identifier: Apache-2.0
"""Background threads: an exception ends the worker, whatever becomes of the line about it."""

import threading

import pytest

from tests.unwritable_log import unwritable_log
from tracker_worker.bus.rabbit.queues import TopologyMismatch
from tracker_worker.worker import threads
from tracker_worker.worker.threads import worker_thread

SECONDS = 20


def run(error: BaseException) -> threading.Event:
    """Run a thread that raises; return whether the worker was told."""
    failed = threading.Event()

    def raising() -> None:
        raise error

    thread = worker_thread("thread", raising, failed.set)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()
    return failed


def test_thread_that_returns_does_not_end_the_worker() -> None:
    failed = threading.Event()
    thread = worker_thread("thread", lambda: None, failed.set)
    thread.start()
    thread.join(SECONDS)
    assert not failed.is_set()


def test_unexpected_error_ends_the_worker_and_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(ZeroDivisionError("by zero")).is_set()
    (record,) = caplog.records
    assert record.getMessage() == "Thread thread ended by an unexpected error"
    assert "raising" in caplog.text
    assert "ZeroDivisionError: by zero" in caplog.text


def test_queue_of_another_kind_ends_the_worker_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert run(TopologyMismatch("queue tracker.0 is a quorum queue")).is_set()
    (record,) = caplog.records
    assert (record.getMessage(), record.exc_info) == ("queue tracker.0 is a quorum queue", None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_error_that_cannot_be_logged_ends_the_worker_too() -> None:
    with unwritable_log(threads.__name__):
        assert run(ZeroDivisionError()).is_set()
