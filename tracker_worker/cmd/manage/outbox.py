# SPDX-License-Identifier: Apache-2.0
"""`outbox list`, `outbox stats`."""

from typing import Any

from msgspec.structs import astuple
from oslo_config import cfg

from tracker_worker.cmd.manage.formatting import (
    TABLE,
    print_diagnostic,
    print_document,
    print_fields,
    print_rows,
)
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.db import leases, outbox_queries
from tracker_worker.db.outbox_queries import WaitingGroup

_IN_TABLE = ("id", "since", "event_type", "node", "message_id")


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the notifications that wait, those that are published next first."""
    with snapshot(conf) as connection:
        found = outbox_queries.oldest(connection, args.limit, args.name_of_node)
        total = len(found)
        if total == args.limit:
            total = outbox_queries.count(connection, args.name_of_node)
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        print_rows(_IN_TABLE, ([getattr(one, name) for name in _IN_TABLE] for one in found))
    if len(found) < total:
        print_diagnostic(f"the oldest {len(found)} of {total} notifications: --limit shows more")
    return 0


def show_stats(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show how many notifications wait by event type, and which worker publishes them."""
    with snapshot(conf) as connection:
        found = outbox_queries.stats(connection)
        lease = leases.holder(connection, leases.RELAY)
    publisher = lease.owner if lease is not None and lease.seconds_left > 0 else None
    if args.format != TABLE:
        print_document({"publisher": publisher, "waiting": found}, args.format)
        return 0
    print_rows(WaitingGroup.__struct_fields__, map(astuple, found))
    print_fields({"publisher": publisher})
    return 0
