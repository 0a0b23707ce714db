# SPDX-License-Identifier: Apache-2.0
"""The order of a client's audits of one node: an older one must not be sent after a newer one.

The newer one made the worker forget what has been touched since the older was read.
"""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

from tracker_worker.exceptions import TrackerUnavailable


class AuditOrder:
    """Knows the highest `as_of` that was sent of each node. Any thread; no lock.

    A node's record goes from hand to hand: whoever has it is sending. Nodes do not wait for each other.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._records: dict[str, queue.Queue[int]] = {}

    @contextmanager
    def newest(self, node: str, as_of: int | None) -> Iterator[bool]:
        """Tell whether no newer audit of the node has been sent; until the block ends none will be.

        Raises TrackerUnavailable when another audit of the node is being sent for longer than the timeout.
        """
        if as_of is None:
            yield True
            return
        record = self._records.setdefault(node, _new_record())
        try:
            sent = record.get(timeout=self._timeout)
        except queue.Empty:
            raise TrackerUnavailable(
                f"Another audit of node {node} has been on its way for {self._timeout} s: this one was not "
                "sent, leave it to the next"
            ) from None
        try:
            yield as_of >= sent
        finally:
            record.put(max(as_of, sent))


def _new_record() -> "queue.Queue[int]":
    record: queue.Queue[int] = queue.Queue(1)
    record.put(0)
    return record
