# SPDX-License-Identifier: Apache-2.0
"""One node in a batch: what the events have changed so far, the proof of its sum, its usage notification."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.records import NodeChange
from tracker_worker.domain.node import (
    Change,
    ClaimDropped,
    ClaimPut,
    Node,
    NodeRemoved,
    assert_sum_follows,
    proved,
)
from tracker_worker.domain.notifications import CausePayload, Notification, usage_notification
from tracker_worker.domain.origins import OriginCleared, OriginEvicted, OriginRecorded


class NodeProgress(Struct):
    """A node's change in a batch: the number of events, of those that changed the ledger, the last cause.

    `corrected`: an audit or a rebuild has corrected the node.
    """

    change: NodeChange
    events: int = 0
    visible: int = 0
    corrected: bool = False
    cause: CausePayload | None = None

    def advance(self, after: Node, changes: Iterable[Change]) -> None:
        """Add the changes of an event, and the node after it."""
        record = self.change
        for change in changes:
            match change:
                case ClaimPut(claim):
                    record.claims.add((claim.instance_uuid, claim.role))
                case ClaimDropped(uuid, role):
                    record.claims.add((uuid, role))
                case OriginRecorded(uuid, _) | OriginCleared(uuid) | OriginEvicted(uuid):
                    record.last_origins.add(uuid)
                case NodeRemoved():
                    record.claims |= {(claim.instance_uuid, claim.role) for claim in record.before.held()}
                    record.last_origins |= set(record.before.last_origins)
                case _:
                    pass
        record.after = after

    def prove_sum(self) -> None:
        """Raise LedgerBroken unless the node's sum is right (promise 5).

        It is proved from the claims that have changed; from all claims after a correction, and now and then.
        """
        before, after = self.change.before, self.change.after
        if self.corrected or after.claims.until_proof <= 0:
            self.change.after = proved(after)
        else:
            assert_sum_follows(before, after, self.change.claims)

    def usage_notification(self) -> Notification | None:
        """Return the node's usage notification and note that it is sent; None if no usage has changed."""
        after = self.change.after
        if not self.visible or not after.tracked or self.cause is None:
            return None
        notification = usage_notification(after, after.usage_sequence, self.cause, self.events)
        self.change.after = replace(after, usage_sequence=after.sequence)
        return notification
