# SPDX-License-Identifier: Apache-2.0
"""The nodes of a lane that need an operator though their events are applied. Metrics count them."""

from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.report import excess_reserves


class NodeFaults:
    """Written by the lane's thread, which notes each node that it commits."""

    def __init__(self) -> None:
        self._in_conflict: set[str] = set()
        self._with_excess: set[str] = set()

    def note(self, before: Node | None, after: Node) -> None:
        """Note a committed node. `before` is what was noted of it last, None if it was not."""
        if after.conflicts:
            self._in_conflict.add(after.name)
        else:
            self._in_conflict.discard(after.name)
        # Few events change the report: an event costs two comparisons.
        if before is None or before.resources is not after.resources or before.reserve is not after.reserve:
            if excess_reserves(after.resources, after.reserve):
                self._with_excess.add(after.name)
            else:
                self._with_excess.discard(after.name)

    def clear(self) -> None:
        """Forget all nodes: another worker may have them now."""
        self._in_conflict.clear()
        self._with_excess.clear()

    def counts(self) -> dict[str, int]:
        """Return the number of nodes with each fault. Any thread."""
        return {
            ErrorCode.NODE_CONFLICT: len(self._in_conflict),
            ErrorCode.RESERVE_TOO_LARGE: len(self._with_excess),
        }
