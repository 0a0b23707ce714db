# SPDX-License-Identifier: Apache-2.0
"""The loop of background threads: when its step runs, and how it ends."""

import queue
import threading

import pytest

from tracker_worker.worker.loop import Loop

NEVER = 3600.0
SECONDS = 20


def fail() -> None:
    pytest.fail("the worker would end")


def test_step_runs_after_each_interval_without_being_woken() -> None:
    steps: queue.Queue[bool] = queue.Queue()
    loop = Loop("loop", steps.put, 0.001, fail)
    loop.start()
    assert [steps.get(timeout=SECONDS) for _ in range(3)] == [False] * 3
    loop.stop()
    assert loop.join(SECONDS)


def test_wake_up_before_the_start_runs_the_step_at_once() -> None:
    steps: queue.Queue[bool] = queue.Queue()
    loop = Loop("loop", steps.put, NEVER, fail)
    loop.wake()
    loop.start()
    assert steps.get(timeout=SECONDS)
    loop.stop()
    assert loop.join(SECONDS)


def test_wake_up_during_a_step_runs_it_once_more() -> None:
    running, go_on = threading.Event(), threading.Event()
    steps: queue.Queue[bool] = queue.Queue()

    def step(woken: bool) -> None:
        running.set()
        assert go_on.wait(SECONDS)
        steps.put(woken)

    loop = Loop("loop", step, NEVER, fail)
    loop.wake()
    loop.start()
    assert running.wait(SECONDS)
    loop.wake()
    go_on.set()
    assert [steps.get(timeout=SECONDS) for _ in range(2)] == [True, True]
    loop.stop()
    assert loop.join(SECONDS)


def test_stopped_loop_finishes_without_another_step() -> None:
    done: list[str] = []
    loop = Loop("loop", lambda _woken: done.append("step"), NEVER, fail, lambda: done.append("finish"))
    loop.wake()
    loop.stop()
    loop.run()
    assert (done, loop.stopping.is_set()) == (["finish"], True)


@pytest.mark.parametrize("part", ["step", "finish"])
def test_error_that_a_part_raises_is_told(part: str) -> None:
    failed = threading.Event()

    def broken(*_woken: bool) -> None:
        raise ZeroDivisionError

    def nothing(*_woken: bool) -> None:
        pass

    parts = {"step": nothing, "finish": nothing} | {part: broken}
    loop = Loop("loop", parts["step"], 0.001, failed.set, parts["finish"])
    loop.start()
    if part == "finish":
        loop.stop()
    assert failed.wait(SECONDS)
    assert loop.join(SECONDS)
