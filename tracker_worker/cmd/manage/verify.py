# SPDX-License-Identifier: Apache-2.0
"""`node verify`: recompute the figures of nodes from their rows."""

from typing import Any

from msgspec.structs import astuple
from oslo_config import cfg

from tracker_worker.cmd.manage.every_node import selected
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.loading import untracked
from tracker_worker.domain.verification import Difference, differences

UNREADABLE = "rows"


def verify(conf: cfg.ConfigOpts, args: Any) -> int:
    """Recompute the usage of a node or of all nodes from the rows; exit code 1 if a figure differs."""
    found: list[Difference] = []
    verified = 0
    for nodes, unreadable in selected(conf, args.name_of_node, "verifying"):
        for node in nodes.values():
            if not node.tracked and not args.all_nodes:  # With --all it was removed meanwhile.
                raise untracked(node)
            if node.tracked:
                found += differences(node)
        found += (Difference(name, UNREADABLE, why, None) for name, why in unreadable.items())
        verified += len(nodes) + len(unreadable)
    if args.format != TABLE:
        print_document({"nodes": verified, "differences": found}, args.format)
    elif found:
        print_rows(Difference.__struct_fields__, map(astuple, found), "Differences")
    wrong = len({difference.node for difference in found})
    print_diagnostic(f"{wrong} of {verified} nodes have differences")
    return 1 if found else 0
