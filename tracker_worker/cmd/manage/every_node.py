# SPDX-License-Identifier: Apache-2.0
"""Commands on all nodes: the nodes in batches of constant numbers of statements, with a progress bar."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from oslo_config import cfg

from tracker_worker.cmd.manage.formatting import converting_output_errors
from tracker_worker.cmd.manage.session import engine_at_head, snapshot_of
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.db import store
from tracker_worker.db.store import NodesBroken
from tracker_worker.domain.node import Node

NODES_AT_ONCE = 200

Loaded = tuple[dict[str, Node], dict[str, str]]
"""Nodes by name, and the reasons why others cannot be read, by name."""


def selected(conf: cfg.ConfigOpts, name: str | None, description: str) -> Iterator[Loaded]:
    """Yield the node of a name; without a name all tracked nodes, in batches.

    Each batch is a snapshot of its own, so that no transaction stays open while nodes are examined.
    """
    with engine_at_head(conf) as engine:
        if name is not None:
            with snapshot_of(engine) as connection:
                loaded = load_readable(connection, [name])
            yield loaded
            return
        with engine.connect() as connection:
            names = store.names(connection)
        with progress_bar(len(names), description, "nodes") as advance:
            show = converting_output_errors(advance)
            for start in range(0, len(names), NODES_AT_ONCE):
                some = names[start : start + NODES_AT_ONCE]
                with snapshot_of(engine) as connection:
                    loaded = load_readable(connection, some)
                yield loaded
                show(len(some))


def load_readable(connection: sa.Connection, names: Sequence[str]) -> Loaded:
    """Load nodes, without those whose rows cannot be read."""
    try:
        return (store.load_ledgers(connection, names) if names else {}), {}
    except NodesBroken as error:
        nodes, unreadable = load_readable(connection, [name for name in names if name not in error.reasons])
        return nodes, {**unreadable, **error.reasons}
    except ValueError:  # The driver decodes JSON, and does not say of which row.
        if len(names) == 1:
            return {}, {names[0]: "its rows are not valid JSON"}
    half = len(names) // 2
    parts = [load_readable(connection, part) for part in (names[:half], names[half:])]
    return {**parts[0][0], **parts[1][0]}, {**parts[0][1], **parts[1][1]}
