# SPDX-License-Identifier: Apache-2.0
"""`node show`, `node rebuild`."""

from typing import Any

from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    print_document,
    print_fields,
    print_rows,
)
from tracker_worker.cmd.manage.hardware import print_devices, print_topology
from tracker_worker.cmd.manage.loading import loaded, print_faults, unreadable, untracked
from tracker_worker.cmd.manage.operator_request import request_of_operator
from tracker_worker.cmd.manage.session import engine_at_head, settings_of, snapshot
from tracker_worker.core.batch import Batch, Snapshot
from tracker_worker.db.store import NodesBroken, StaleNode
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.node import Node, rebuilt, sum_fault
from tracker_worker.domain.views import node_view
from tracker_worker.worker.service import batch_context_of, new_id

_CLAIMS = ("instance_uuid", "role", "migration_uuid", "vcpus", "memory_mb", "disk_mb")


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show a node: the node view, with its claims, NUMA cells and PCI devices."""
    node = tracked_node(conf, args.name_of_node)
    print_faults(node)
    view = node_view(node)
    if args.format != TABLE:
        print_document(view, args.format)
        return 0
    _print_totals(view)
    print_claims(view)
    print_topology(view)
    print_devices(view)
    return 0


def rebuild(conf: cfg.ConfigOpts, args: Any) -> int:
    """Recompute the usage of a node from its claims; show it before and after."""
    settings = settings_of(conf)
    event_id = new_id()
    with engine_at_head(conf) as engine:
        unit_of_work = UnitOfWork(engine)
        try:
            node = unit_of_work.load([args.name_of_node])[args.name_of_node]
            if not node.sequence:
                raise untracked(node)
            if sum_fault(node):
                batch = Batch(Snapshot({}, {node.name: node}, {}), batch_context_of(settings))
                batch.rebuild(node.name, event_id, request_of_operator())
                unit_of_work.commit(batch.transaction())
        except (NodesBroken, ValueError) as error:
            raise unreadable(args.name_of_node, error) from error
        except StaleNode as error:
            raise CommandFailed(f"node '{args.name_of_node}' was changed concurrently: try again") from error
        finally:
            unit_of_work.close()
    before, after = node.used, rebuilt(node).used
    changes = [
        {"used": name, "before": getattr(before, name), "after": getattr(after, name)}
        for name in before.__struct_fields__
    ]
    if args.format != TABLE:
        print_document(changes, args.format)
    else:
        print_rows(("used", "before", "after"), (list(change.values()) for change in changes))
    return 0


def tracked_node(conf: cfg.ConfigOpts, name: str) -> Node:
    """Return a node as the database has it. Raises CommandFailed if it is not tracked or not readable."""
    with snapshot(conf) as connection:
        node = loaded(connection, name)
    if not node.tracked:
        raise untracked(node)
    return node


def print_claims(view: dict[str, Any]) -> None:
    """Print the table of the claims in a node view."""
    print_rows(_CLAIMS, ([claim[key] for key in _CLAIMS] for claim in view["claims"]), "Claims")


def _print_totals(view: dict[str, Any]) -> None:
    totals = {
        key: view[key] for key in view if key != "numa_topology" and not isinstance(view[key], list | dict)
    }
    for total in ("vcpus", "memory_mb", "local_gb"):
        totals[total] = f"{totals.pop(total + '_used')} used of {totals[total]}"
    print_fields(totals, f"Node {view['name']}")
    print_fields({key: view["stats"][key] for key in sorted(view["stats"])}, "Stats")
