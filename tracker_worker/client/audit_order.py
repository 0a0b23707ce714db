# SPDX-License-Identifier: Apache-2.0
"""Orders a client's audits of a node: an older audit must not be sent after a newer one.

Applying the newer audit clears the last origins, which protect events later than an audit's `as_of`.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tracker_worker.exceptions import TrackerUnavailable


class _Turn:
    """One audit's place in the order of its node. `sent`, which is set before `ended`, is the highest `as_of`
    sent so far, None if the audit timed out before its turn.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.sent: int | None = None


class _Node:
    """The turns of one node's audits by number, beginning with the last audit that was sent."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self._turns = {0: _Turn()}
        self._turns[0].sent = 0
        self._turns[0].ended.set()

    def turn(self, number: int) -> _Turn:
        """Return the turn of this number, which the first call creates."""
        return self._turns.setdefault(number, _Turn())

    def forget_before(self, number: int) -> None:
        """Remove the turns before one that has ended: no audit waits for these any more."""
        while self._turns.pop(number := number - 1, None) is not None:
            pass


class AuditOrder:
    """Sends the audits of each node one after the other. Any thread; no lock.

    An audit draws a number and waits until the audit with the number before has ended. Audits of different
    nodes do not wait for each other. `timeout` is in seconds, `monotonic` a clock in seconds, never set back.
    """

    def __init__(self, timeout: float, monotonic: Callable[[], float]) -> None:
        self._timeout = timeout
        self._monotonic = monotonic
        self._nodes: dict[str, _Node] = {}

    @contextmanager
    def newest(self, node: str, as_of: int | None) -> Iterator[bool]:
        """Tell whether no newer audit of the node has been sent. None is sent until the block ends.

        Raises TrackerUnavailable if the send of another audit of the node takes longer than the timeout.
        """
        if as_of is None:
            yield True
            return
        known = self._nodes.setdefault(node, _Node())
        number = next(known.numbers)
        turn = known.turn(number)
        sent = None
        try:
            sent = self._sent_before(known, number)
        finally:
            if sent is None:  # Also after an interrupt: the audits behind this one must not wait for it.
                turn.ended.set()
        if sent is None:
            raise TrackerUnavailable(
                f"Another audit of node {node} has been on its way for {self._timeout} s: this one was not "
                "sent, leave it to the next"
            )
        try:
            yield as_of >= sent
        finally:
            turn.sent = max(as_of, sent)
            turn.ended.set()
            known.forget_before(number)

    def _sent_before(self, known: _Node, number: int) -> int | None:
        """Wait for the audits before this one; return their highest `as_of`, None after the timeout."""
        deadline = self._monotonic() + self._timeout
        while True:
            number -= 1
            before = known.turn(number)
            if not before.ended.wait(max(deadline - self._monotonic(), 0.0)):
                return None
            if before.sent is not None:
                return before.sent
