# SPDX-License-Identifier: Apache-2.0
"""The order of a client's audits of one node: an older one must not be sent after a newer one.

The newer one made the worker forget what has been touched since the older was read.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tracker_worker.exceptions import TrackerUnavailable


class _Turn:
    """One audit's place in the order of its node. `sent` is set before `ended`: the highest `as_of` that was
    sent by then, None for an audit that gave up waiting for its turn.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.sent: int | None = None


class _Node:
    """The turns of one node's audits by number, from the last one that was sent on."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self._turns = {0: _Turn()}
        self._turns[0].sent = 0
        self._turns[0].ended.set()

    def turn(self, number: int) -> _Turn:
        """Return a turn, made by whoever asks first."""
        return self._turns.setdefault(number, _Turn())

    def forget_before(self, number: int) -> None:
        """Forget the turns before one that has ended: nobody waits for these any more."""
        while self._turns.pop(number := number - 1, None) is not None:
            pass


class AuditOrder:
    """Sends the audits of each node one after the other. Any thread; no lock.

    An audit draws a number and waits until the one before it has ended. Nodes do not wait for each other.
    `timeout` is in seconds, `monotonic` a clock in seconds that is never set.
    """

    def __init__(self, timeout: float, monotonic: Callable[[], float]) -> None:
        self._timeout = timeout
        self._monotonic = monotonic
        self._nodes: dict[str, _Node] = {}

    @contextmanager
    def newest(self, node: str, as_of: int | None) -> Iterator[bool]:
        """Tell whether no newer audit of the node has been sent; until the block ends none will be.

        Raises TrackerUnavailable when another audit of the node is being sent for longer than the timeout.
        """
        if as_of is None:
            yield True
            return
        known = self._nodes.setdefault(node, _Node())
        number = next(known.numbers)
        turn = known.turn(number)
        sent = self._sent_before(known, number)
        if sent is None:
            turn.ended.set()
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
        """Wait for the audits before this one; return the highest `as_of` of them, None after the timeout."""
        deadline = self._monotonic() + self._timeout
        while True:
            number -= 1
            before = known.turn(number)
            if not before.ended.wait(max(deadline - self._monotonic(), 0.0)):
                return None
            if before.sent is not None:
                return before.sent
