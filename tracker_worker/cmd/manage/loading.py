# SPDX-License-Identifier: Apache-2.0
"""The node of a command, why it cannot be shown, and what is wrong with it."""

import sqlalchemy as sa

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.formatting import print_diagnostic
from tracker_worker.db import store
from tracker_worker.db.store import UNTIL_READABLE, NodesBroken
from tracker_worker.domain.node import Node, sum_fault
from tracker_worker.domain.report import excess_reserves


def loaded(connection: sa.Connection, name: str) -> Node:
    """Return a node of the database; a name without a row is an untracked node. Raises CommandFailed."""
    try:
        return store.load_ledgers(connection, [name])[name]
    except (NodesBroken, ValueError) as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> CommandFailed:
    """Return the error of a command whose node has rows that cannot be read."""
    if isinstance(error, NodesBroken):
        return CommandFailed(f"node {error}")
    return CommandFailed(f"node {name}: its rows are not valid JSON; {UNTIL_READABLE}")


def untracked(node: Node) -> CommandFailed:
    """Return the error of a command that needs a tracked node."""
    if node.conflicts:
        return CommandFailed(f"node '{node.name}' is not tracked: {_conflicts(node)}")
    return CommandFailed(
        f"node '{node.name}' is not tracked: its next update_available_resource creates it; "
        "'node list' lists the tracked nodes"
    )


def print_faults(node: Node) -> None:
    """Print a line on standard error for each fault of a tracked node that an operator has to correct."""
    if fault := sum_fault(node):
        print_diagnostic(f"node '{node.name}' is broken, its events are held: {fault}; see 'node rebuild'")
    if node.conflicts:
        print_diagnostic(f"node '{node.name}' is in conflict: {_conflicts(node)}")
    if excess := excess_reserves(node.resources, node.reserve):
        print_diagnostic(f"the reserve exceeds the node: {', '.join(excess.values())}")


def _conflicts(node: Node) -> str:
    return (
        f"reports with uuid {', '.join(node.conflicts)} were refused; 'node history {node.name} --outcome "
        "refused' says by which host, and how to find out which node is wrong"
    )
