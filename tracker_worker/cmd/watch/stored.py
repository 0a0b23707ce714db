# SPDX-License-Identifier: Apache-2.0
"""The usage of the nodes in the database: on a quiet cloud no notification shows them for long."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec
from oslo_config import cfg

from tracker_worker.cmd.database import database_file
from tracker_worker.cmd.manage.every_node import load_readable
from tracker_worker.cmd.manage.session import engine_at_head, snapshot_of
from tracker_worker.cmd.watch.picture import MAX_NODES
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.core.received_notification import NotificationData
from tracker_worker.db import store
from tracker_worker.domain.node import Node
from tracker_worker.domain.views import usage_view

CHUNK = 200
"""Nodes of one read: the watch looks at the broker between two."""


def stored_usages(conf: cfg.ConfigOpts, selection: Selection) -> Iterator[list[NotificationData]]:
    """Yield the selected nodes, the first MAX_NODES by name, as their last notifications had them.

    Yields none if no database is configured, and none of the broken nodes. Raises CommandFailed.
    """
    if not conf.database.connection and not database_file(Path(conf.state_path)).exists():
        return
    with engine_at_head(conf) as engine:
        with snapshot_of(engine) as connection:
            names = iter([name for name in store.names(connection) if selection.has_node(name)][:MAX_NODES])
        while chunk := list(islice(names, CHUNK)):
            # No transaction stays open while the watch does something else.
            with snapshot_of(engine) as connection:
                nodes, _ = load_readable(connection, chunk)
            yield list(_data_of(nodes.values()))


def _data_of(nodes: Iterable[Node]) -> Iterator[NotificationData]:
    for node in nodes:
        if node.tracked:
            # Each later usage notification is received, and its `since` is at least this sequence.
            view = {**usage_view(node), "node": node.name, "sequence": node.usage_sequence}
            with suppress(msgspec.ValidationError):  # A number was changed by hand, and is out of range.
                yield msgspec.convert(view, NotificationData)
