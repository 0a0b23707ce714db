# SPDX-License-Identifier: Apache-2.0
"""Which transactions write so few rows that a single statement can. It needs no BEGIN and COMMIT. Pure."""

from tracker_worker.core.records import NodeChange, Transaction, replayed_letter


def marks_one_node(transaction: Transaction) -> bool:
    """Tell whether a transaction only updates the row of one node: that of a single audit without changes."""
    return (
        len(transaction.nodes) == 1
        and transaction.nodes[0].before.sequence > 0
        and transaction.nodes[0].after.sequence == transaction.nodes[0].before.sequence
        and not transaction.nodes[0].last_origins
        and not transaction.receipts
        and not transaction.dead_letters
        and not transaction.notifications
        and not transaction.finished_attempts
        and not transaction.unchanged
    )


def inserts_few_rows(transaction: Transaction) -> bool:
    """Tell whether a transaction updates the row of one node, inserts a receipt and at most one claim and one
    notification, writes at most one touched instance, and does nothing else: mostly that of a lone command.
    """
    if len(transaction.nodes) != 1 or len(transaction.receipts) != 1 or len(transaction.notifications) > 1:
        return False
    (change,), (receipt,) = transaction.nodes, transaction.receipts
    return (
        _adds_at_most_one(change)
        and replayed_letter(receipt.event_id) is None
        and not transaction.dead_letters
        and not transaction.finished_attempts
        and not transaction.unchanged
        and not transaction.unsynced
    )


def _adds_at_most_one(change: NodeChange) -> bool:
    """Tell whether a node that has a row gets at most one new claim and one touched instance, and loses none.

    A claim that is replaced is deleted before, which finds out whether it is in SQL.
    """
    before, after = change.before, change.after
    return (
        before.sequence > 0
        and after.resources is before.resources
        and len(change.claims) <= 1
        and len(change.last_origins) <= 1
        and all(after.claim(*key) and not before.claim(*key) for key in change.claims)
        and all(uuid in after.last_origins for uuid in change.last_origins)
    )
