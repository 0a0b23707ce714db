# SPDX-License-Identifier: Apache-2.0
"""`node list`."""

from typing import Any

from oslo_config import cfg

from tracker_worker.cmd.manage.formatting import TABLE, print_document, print_rows
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.db import queries
from tracker_worker.db.queries import NodeSummary

_LIST = "name host uuid vcpus memory_mb local_gb vms disabled conflicts broken"


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the nodes that are tracked, or whose reports were refused as conflicts."""
    with snapshot(conf) as connection:
        found = queries.nodes(connection)
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        print_rows(_LIST.split(), map(_row, found))
    return 0


def _row(node: NodeSummary) -> list[Any]:
    return [
        node.name,
        node.host,
        node.uuid,
        _usage(node.vcpus_used, node.vcpus),
        _usage(node.memory_mb_used, node.memory_mb),
        _usage(node.local_gb_used, node.local_gb),
        node.running_vms,
        node.disabled,
        node.conflicts,
        node.broken,
    ]


def _usage(used: int, total: int | None) -> str | None:
    return None if total is None else f"{used}/{total}"
