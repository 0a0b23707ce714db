# SPDX-License-Identifier: Apache-2.0
"""Calls run side by side on a few threads, which end with the process whatever they wait for."""

import subprocess
import sys
import threading

import pytest

from tracker_worker.worker.request_threads import RequestThreads

HANGING = """
import threading
from tracker_worker.worker.request_threads import RequestThreads

begun = threading.Event()

def hang():
    begun.set()
    threading.Event().wait()

threads = RequestThreads(1, "hanging")
threads.submit(hang)
begun.wait()
threads.shutdown(wait=False, cancel_futures=True)
print("at its end")
"""


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "at its end\n")


def test_results_and_errors_are_those_of_the_calls() -> None:
    threads = RequestThreads(2, "calls")
    good, bad = threads.submit(divmod, 7, 2), threads.submit(divmod, 7, 0)
    assert good.result() == (3, 1)
    assert isinstance(bad.exception(), ZeroDivisionError)
    threads.shutdown()


def test_as_many_calls_as_threads_run_at_a_time() -> None:
    threads = RequestThreads(2, "calls")
    both, release = threading.Barrier(3), threading.Event()

    def call() -> int:
        both.wait()
        release.wait()
        return threading.get_ident()

    first, second = threads.submit(call), threads.submit(call)
    third = threads.submit(threading.get_ident)
    both.wait()
    assert not third.done()
    release.set()
    assert third.result() in {first.result(), second.result()}
    threads.shutdown()


def test_what_has_not_begun_is_cancelled_at_the_end() -> None:
    threads = RequestThreads(1, "calls")
    begun, release = threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        release.wait()
        return "done"

    running, waiting = threads.submit(call), threads.submit(pytest.fail)
    begun.wait()
    threads.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    release.set()
    assert running.result() == "done"
