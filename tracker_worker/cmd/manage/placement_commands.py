# SPDX-License-Identifier: Apache-2.0
"""The part of the table of commands that is about Placement, and the arguments of these commands."""

from argparse import ArgumentTypeError
from typing import Any

from tracker_worker.cmd.manage.parser import Command

INCOMPLETE = 3
"""Exit code of an audit that has not audited all nodes."""
GRACE_SECONDS = 60
_MAX_GRACE = 24 * 60 * 60


def add_names(parser: Any) -> None:
    """Add the names of nodes."""
    parser.add_argument("names", nargs="*", metavar="NODE", help="the name of a node; by default all nodes")


def add_audit(parser: Any) -> None:
    """Add the options of `placement audit`."""
    parser.add_argument("--after", metavar="NODE", help="only nodes whose names come after this one")
    parser.add_argument("--fix", action="store_true", help="remove the allocations that are proved left over")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what --fix would do, without doing it or waiting"
    )
    parser.add_argument(
        "--grace",
        type=_grace,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="how long --fix waits before it audits again what it is to remove, by default "
        f"{GRACE_SECONDS}; longer than a claim may wait for a worker",
    )


def add_all(parser: Any) -> None:
    """Add --all of `placement status`."""
    parser.add_argument("--all", action="store_true", dest="all_nodes", help="show the synced nodes, too")


def add_nodes_to_sync(parser: Any) -> None:
    """Add the names of nodes, or --all."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("names", nargs="*", default=[], metavar="NODE", help="the name of a node")
    which.add_argument(
        "--all", action="store_true", dest="all_nodes", help="all nodes that a worker has synced before"
    )


def _grace(text: str) -> int:
    if text.isdecimal() and int(text) <= _MAX_GRACE:
        return int(text)
    raise ArgumentTypeError(f"a number from 0 to {_MAX_GRACE} is needed, not {text!r}")


PLACEMENT_COMMANDS = (
    Command(
        "placement audit",
        "placement_audit:audit",
        "Compare the claims of nodes with their allocations in Placement, consumer by consumer.",
        (add_names, add_audit),
        {
            "complete": "true: all nodes were audited, so that no finding means agreement",
            "nodes": "the number of nodes that were compared: the tracked ones, and the removed ones that "
            "have a provider still",
            "findings": "node, finding (missing, size, orphaned, double, removed_node), consumer, "
            "instance_uuid, role of the claim, ledger and placement (amounts by resource class; null for "
            "nothing), claimed_by (other nodes), providers of the node, last_event (recorded_at, sequence, "
            "method, outcome, event_id, request_id; null if not kept), explanation, result (removed, left, "
            "would be removed, would be left; null without --fix and --dry-run)",
            "left_out": "node and reason of those whose rows cannot be read",
            "resume_after": "the node for --after; null if the audit has not ended early, or has no node",
        },
        {
            "placement audit": "do all allocations agree with the ledger?",
            "placement audit compute-1 --dry-run": "what would --fix remove of one node?",
            "placement audit --fix": "remove what is proved to be left over",
            "placement audit --after compute-1": "go on after an interruption",
        },
        failure="a difference remains, or the command failed before it asked Placement",
        more_exit_codes={
            INCOMPLETE: "Placement or the database did not answer, or refused, or the rows of a node cannot "
            "be read: not all nodes were audited. There is a document only if there is a finding"
        },
    ),
    Command(
        "placement status",
        "placement_status:show",
        "Show the nodes that wait to be synced to Placement, since when, and the last error.",
        (add_names, add_all),
        {
            "node": "the node",
            "changed_at": "since when Placement does not have a change; null if it has all",
            "synced_at": "when the node was last synced; null if never",
            "attempts": "how often the present change has failed",
            "retry_at": "when the node is synced next; a time that has passed: as soon as a worker can; "
            "null: not before its next change",
            "error_code": "the code of the last error; null after a success",
            "error": "its text",
            "foreign_provider": "the provider whose inventories somebody else changes; null if nobody does",
        },
        {
            "placement status": "which nodes wait, and why?",
            "placement status compute-1": "when was a node last synced?",
        },
        failure="a node has an error, or somebody else changes its provider; or the command failed",
    ),
    Command(
        "placement sync",
        "placement_status:sync",
        "Have a worker sync nodes to Placement at once, although nothing has changed or an error holds them.",
        (add_nodes_to_sync,),
        {"node": "the node", "marked": "true: a worker syncs it; false: none has ever synced it"},
        {
            "placement sync compute-1 compute-2": "after the cause of their errors was removed",
            "placement sync --all": "after Placement's database was restored",
        },
        failure="no worker has ever synced one of the nodes, or the command failed: standard error says why",
    ),
)
"""The commands on Placement."""
