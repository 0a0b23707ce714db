# SPDX-License-Identifier: Apache-2.0
"""The node of a command, and why it cannot be shown."""

import sqlalchemy as sa

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.db import store
from tracker_worker.db.store import UNTIL_READABLE, NodesBroken
from tracker_worker.domain.node import Node


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


def untracked(name: str) -> CommandFailed:
    """Return the error of a command that needs a tracked node."""
    return CommandFailed(
        f"node '{name}' is not tracked: its next update_available_resource creates it; "
        "'node list' lists the tracked nodes"
    )
