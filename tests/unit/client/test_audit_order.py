# SPDX-License-Identifier: Apache-2.0
"""Audits of one node go in the order in which they were read; nodes do not wait for each other."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tracker_worker.client.audit_order import AuditOrder
from tracker_worker.exceptions import TrackerUnavailable

SECONDS = 30


def passing() -> Callable[[], float]:
    """A clock on which every timeout has passed at the next look."""
    return itertools.count(step=2.0 * SECONDS).__next__


def test_older_audit_of_a_node_is_told_after_a_newer_one() -> None:
    order = AuditOrder(SECONDS, time.monotonic)
    with order.newest("node-1", 5) as newest:
        assert newest
    with order.newest("node-1", 4) as newest:
        assert not newest
    with order.newest("node-1", 5) as newest:
        assert newest
    with order.newest("node-2", 1) as newest:
        assert newest


def test_audit_of_another_node_does_not_wait_and_one_of_the_same_waits_no_longer_than_the_timeout() -> None:
    """Found by a review: a broker in alarm made the sixth audit wait for six time-outs."""
    order = AuditOrder(SECONDS, passing())
    with order.newest("node-1", 5):
        with order.newest("node-2", 5) as newest:
            assert newest
        with pytest.raises(TrackerUnavailable, match="node-1"), order.newest("node-1", 6):
            pass


def test_audit_that_is_interrupted_while_it_waits_holds_up_no_later_one() -> None:
    def interrupt() -> float:
        raise KeyboardInterrupt

    order = AuditOrder(SECONDS, time.monotonic)
    with order.newest("node-1", 5):
        order._monotonic = interrupt
        with pytest.raises(KeyboardInterrupt), order.newest("node-1", 6):
            pass
        order._monotonic = time.monotonic
    order._timeout = 0.0
    with order.newest("node-1", 7) as newest:
        assert newest


def test_audit_without_as_of_waits_for_nothing() -> None:
    order = AuditOrder(SECONDS, passing())
    with order.newest("node-1", 5), order.newest("node-1", None) as newest:
        assert newest


def test_audit_that_gave_up_does_not_let_the_next_overtake_the_one_on_its_way() -> None:
    order = AuditOrder(SECONDS, passing())
    with order.newest("node-1", 5):
        for _ in range(2):
            with pytest.raises(TrackerUnavailable), order.newest("node-1", 6):
                pass
    with order.newest("node-1", 4) as newest:
        assert not newest


def test_audits_of_a_node_are_sent_one_after_the_other_by_many_threads() -> None:
    order = AuditOrder(SECONDS, time.monotonic)
    sending: list[int] = []
    overlaps: list[int] = []
    sent: list[int] = []

    def audit(as_of: int) -> None:
        with order.newest("node-1", as_of) as newest:
            overlaps.extend(sending)
            sending.append(as_of)
            if newest:
                sent.append(as_of)
            sending.remove(as_of)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(audit, range(1, 301)))
    assert overlaps == []
    assert sent == sorted(sent)


def test_turns_that_ended_are_forgotten() -> None:
    order = AuditOrder(SECONDS, time.monotonic)
    for as_of in range(1, 100):
        with order.newest("node-1", as_of):
            pass
    assert len(order._nodes["node-1"]._turns) == 1
