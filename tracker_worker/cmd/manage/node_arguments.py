# SPDX-License-Identifier: Apache-2.0
"""Arguments of the commands that explain nodes and show their history."""

from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any

from tracker_worker.cmd.manage.arguments import MAX_ROWS, last_time, number, time
from tracker_worker.core.times import TIME_FORMS

_OUTCOMES = ("applied", "granted", "refused", "ignored", "parked")
_MOST_SEQUENCE = 2**63 - 1
FLAVOR = '{"vcpus": 2, "memory_mb": 4096, "root_gb": 20}'
"""A flavor with all keys that it needs."""
_INSTANCE = (
    '{"uuid": "6f70656e-7374-4163-8b2d-747261636b65", "project_id": "demo", "vm_state": "building", '
    f'"flavor": {FLAVOR}}}'
)


def add_history(parser: Any) -> None:
    """Add the filters of `node history`, and --at and --diff."""
    parser.add_argument("--since", type=time, metavar="TIME", help=f"events since {TIME_FORMS}")
    parser.add_argument("--until", type=last_time, metavar="TIME", help="events until such a time")
    parser.add_argument("--instance", metavar="UUID", help="events that concern this instance")
    parser.add_argument("--method", metavar="METHOD", help="events of this method")
    parser.add_argument(
        "--outcome", choices=_OUTCOMES, metavar="OUTCOME", help=f"events of one of {', '.join(_OUTCOMES)}"
    )
    parser.add_argument("--request-id", metavar="ID", help="events of this request of OpenStack")
    points = parser.add_mutually_exclusive_group()
    points.add_argument(
        "--at",
        type=_point,
        metavar="WHEN",
        help="show the node as it was at such a time, or after a sequence",
    )
    points.add_argument(
        "--diff", type=_point, nargs=2, metavar="WHEN", help="show what changed between two of them"
    )


def add_nodes(parser: Any) -> None:
    """Add the name of a node, or --all."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name_of_node", nargs="?", metavar="NODE", help="the name of the node")
    which.add_argument("--all", action="store_true", dest="all_nodes", help="all tracked nodes")


def add_request(parser: Any) -> None:
    """Add the request of `node fit`."""
    request = parser.add_mutually_exclusive_group(required=True)
    request.add_argument(
        "--flavor",
        metavar="FLAVOR",
        help=f"the flavor of a new instance, as in instance_claim: a file, or JSON such as '{FLAVOR}'",
    )
    request.add_argument(
        "--instance",
        metavar="INSTANCE",
        help=f"the instance, as in instance_claim: a file, or JSON such as '{_INSTANCE}'",
    )
    parser.add_argument(
        "--limits",
        metavar="LIMITS",
        help="limits of the scheduler, as in instance_claim: a file, or JSON; without them the claim is "
        "tested as the scheduler does, against (total - reserved) * ratio",
    )
    parser.add_argument(
        "--limit", type=number(MAX_ROWS), default=100, metavar="N", help="the best N nodes, by default 100"
    )


def add_instance(parser: Any) -> None:
    """Add the uuid of an instance."""
    parser.add_argument("uuid", metavar="UUID", help="the uuid of the instance")


def add_device(parser: Any) -> None:
    """Add the address of a device, and --node."""
    parser.add_argument("address", metavar="ADDRESS", help="the PCI address, such as 0000:81:00.1")
    parser.add_argument("--node", dest="name_of_node", metavar="NODE", help="the device of this node only")


def _point(text: str) -> int | datetime:
    """Convert a sequence or a time."""
    if text.isdecimal():
        if int(text) <= _MOST_SEQUENCE:
            return int(text)
        raise ArgumentTypeError(f"a sequence is at most {_MOST_SEQUENCE}, not {text[:40]}")
    return last_time(text)
