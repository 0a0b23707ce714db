# SPDX-License-Identifier: Apache-2.0
"""What is private to CPython and used is there."""

import threading

from tracker_worker.private_apis.cpython import stack_of

SECONDS = 20


def test_stack_of_another_thread_names_its_functions_the_outermost_first() -> None:
    entered, leave = threading.Event(), threading.Event()

    def inner() -> None:
        entered.set()
        leave.wait(SECONDS)

    def outer() -> None:
        inner()

    thread = threading.Thread(target=outer)
    thread.start()
    try:
        assert entered.wait(SECONDS)
        stack = stack_of(thread.ident or 0)
    finally:
        leave.set()
        thread.join(SECONDS)
    assert 0 < stack.index(" in outer") < stack.index(" in inner")


def test_thread_that_has_ended_has_no_stack() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join(SECONDS)
    assert stack_of(thread.ident or 0) == ""
