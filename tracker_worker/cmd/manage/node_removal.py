# SPDX-License-Identifier: Apache-2.0
"""`node remove`: sends `remove_node` to the workers."""

from typing import Any

from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.client import client_of
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_fields
from tracker_worker.cmd.manage.nodes import print_claims, tracked_node
from tracker_worker.cmd.manage.operator_request import request_of_operator
from tracker_worker.domain.node import sum_fault
from tracker_worker.domain.views import node_view
from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.worker.service import new_id


def remove(conf: cfg.ConfigOpts, args: Any) -> int:
    """Have a worker remove a node, whose next report creates it anew; show what the node holds."""
    node = tracked_node(conf, args.name_of_node)
    view = node_view(node)
    if args.host is not None and args.host != view["host"]:
        raise CommandFailed(f"node '{node.name}' belongs to host '{view['host']}': it is not removed")
    if sum_fault(node):
        raise CommandFailed(f"node '{node.name}' is broken, its events are held: see 'node rebuild' first")
    claims = len(view["claims"])
    request_id = request_of_operator()
    event_id = _send(conf, args, request_id) if args.force or not claims else None
    sent = {"event_id": event_id, "request_id": request_id if event_id else None}
    if args.format != TABLE:
        document = {key: view[key] for key in ("name", "host", "uuid", "claims")} | sent
        print_document(document, args.format)
    else:
        print_fields(
            {"host": view["host"], "uuid": view["uuid"], "claims": claims} | sent, f"Node {node.name}"
        )
        print_claims(view)
    if event_id is None:
        print_diagnostic(
            f"node '{node.name}' has {claims} claims and is not removed: with --force they are removed with "
            "it, and an audit of its host creates those of its instances anew"
        )
        return 1
    print_diagnostic(
        f"sent: a worker removes node '{node.name}', its next report creates it anew; 'node history "
        f"{node.name}' shows the outcome"
    )
    return 0


def _send(conf: cfg.ConfigOpts, args: Any, request_id: str) -> str:
    """Cast `remove_node`; return its event id once the broker has confirmed it. Raises CommandFailed."""
    event_id = new_id()
    of_host = {} if args.host is None else {"host": args.host}
    context = {"request_id": request_id}
    try:
        client_of(conf).cast(
            context, "remove_node", args.name_of_node, event_id=event_id, force=args.force, **of_host
        )
    except TrackerWorkerException as error:
        raise CommandFailed(str(error)) from error
    return event_id
