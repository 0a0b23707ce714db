# SPDX-License-Identifier: Apache-2.0
"""An outage is a few lines in the log, however often the queue tries."""

import logging

import pytest

from tracker_worker.nova.cast_log import WARN_SECONDS, CastLog


def test_unreachable_worker_is_logged_at_first_and_after_each_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    log = CastLog(lambda: now[0])
    for seconds in (0.0, 5.0, WARN_SECONDS - 1, WARN_SECONDS, WARN_SECONDS + 5):
        now[0] = seconds
        log.unreachable(casts=12, audits=1)
    assert caplog.messages == ["Cannot reach the worker: 12 casts and 1 audits wait"] * 2


def test_next_outage_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = CastLog(lambda: 0.0)
    log.reached()
    for _ in range(2):
        log.unreachable(casts=1, audits=0)
        log.reached()
        log.reached()
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"] * 2


def test_failed_start_is_logged_once_until_a_thread_was_started(caplog: pytest.LogCaptureFixture) -> None:
    log = CastLog(lambda: 0.0)
    for _ in range(3):
        log.not_started(RuntimeError("can't start new thread"))
    log.started()
    log.not_started(RuntimeError("can't start new thread"))
    assert [each.levelname for each in caplog.records] == ["ERROR"] * 2
