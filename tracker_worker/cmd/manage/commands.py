# SPDX-License-Identifier: Apache-2.0
"""The commands of tracker-worker-manage: one table, of which the parser and the documentation are made.

A command's module is imported when the command runs, so that no command waits for what others need. All texts
are therefore here, not in those modules.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tracker_worker.cmd.manage.arguments import (
    add_filters,
    add_limit,
    add_node,
    add_selection,
    add_state,
    number,
)
from tracker_worker.cmd.manage.formatting import FORMATS, TABLE

_MAX_DAYS = 3650

SUBJECTS = {
    "db": "the database's schema and old rows",
    "queues": "the exchange and the queues on the broker",
    "node": "the nodes, their usage and the history of their events",
    "settings": "the settings that all workers of a database share",
    "dead-letter": "events that could not be applied",
}
"""The subjects, whose commands have two words, with their summaries."""


class Command(Struct, frozen=True):
    """A command: its one or two words, the function that runs it, and what --help says.

    `run` is "module:function", relative to this package. The function gets the configuration and the
    arguments, and returns the exit code.
    """

    name: str
    run: str
    summary: str
    arguments: tuple[Callable[[Any], None], ...] = ()


def _sync(parser: Any) -> None:
    parser.add_argument(
        "--version", dest="revision", default="head", metavar="REVISION", help="by default the newest"
    )


def _purge(parser: Any) -> None:
    parser.add_argument(
        "--days",
        type=number(_MAX_DAYS),
        metavar="N",
        help="retention of receipts, by default [tracker] receipt_days",
    )
    parser.add_argument("--dry-run", action="store_true", help="count the rows instead of deleting them")


def _letter(parser: Any) -> None:
    parser.add_argument("id", metavar="ID", help="the id of the letter, as 'dead-letter list' shows it")


def _force(parser: Any) -> None:
    parser.add_argument("--force", action="store_true", help="replay letters that may do harm, too")


def _removal(parser: Any) -> None:
    parser.add_argument("--host", help="remove the node only if it belongs to this host")
    parser.add_argument("--force", action="store_true", help="remove the node although it has claims")


COMMANDS = (
    Command(
        "db sync",
        "database:sync",
        "Migrate the schema to a revision, by default the newest; create the embedded database if missing.",
        (_sync,),
    ),
    Command(
        "db version",
        "database:version",
        "Show the revision of the database's schema, and the revision that this version needs.",
    ),
    Command(
        "db purge",
        "database:purge",
        "Delete rows that are older than their retention, as workers do every hour; or count them.",
        (_purge,),
    ),
    Command(
        "queues declare",
        "queues:declare_all",
        "Declare the exchange and the queues as a worker does; those that exist with equal arguments stay.",
    ),
    Command(
        "queues list",
        "queues:show_list",
        "List the queues with their messages, consumers and active worker; exit code 1 if any is unknown.",
    ),
    Command(
        "node list",
        "node_list:show_list",
        "List the nodes that are tracked, or whose reports were refused as conflicts.",
    ),
    Command(
        "node show",
        "nodes:show",
        "Show a node: the node view, with its claims, NUMA cells and PCI devices.",
        (add_node,),
    ),
    Command(
        "node history",
        "nodes:history",
        "Show the newest receipts of a node, the oldest first.",
        (add_node, add_limit),
    ),
    Command(
        "node rebuild",
        "nodes:rebuild",
        "Recompute the usage of a node from its claims; show it before and after.",
        (add_node,),
    ),
    Command(
        "node remove",
        "node_removal:remove",
        "Have a worker remove a node, whose next report creates it anew; show what the node holds.",
        (add_node, _removal),
    ),
    Command(
        "settings show",
        "settings:show",
        "Show the settings that all workers of the database share, and whether this configuration differs.",
    ),
    Command(
        "settings accept",
        "settings:accept",
        "Store the shared settings of this configuration in the database; all workers must be stopped.",
    ),
    Command(
        "dead-letter list",
        "dead_letters:show_list",
        "List the newest dead letters of a state.",
        (add_limit, add_state, add_filters),
    ),
    Command(
        "dead-letter summary",
        "dead_letters:summary",
        "Count the dead letters of a state by code and method.",
        (add_state, add_filters),
    ),
    Command(
        "dead-letter show",
        "dead_letters:show",
        "Show a dead letter: its fields, its body, and the outcome of its replays.",
        (_letter,),
    ),
    Command(
        "dead-letter replay",
        "dead_letter_replay:replay",
        "Publish the commands of parked letters again, each node's in the order in which they were parked.",
        (add_selection, _force),
    ),
    Command(
        "dead-letter discard",
        "dead_letters:discard",
        "Discard parked letters: they are no longer parked, and are deleted after [tracker] "
        "dead_letter_days.",
        (add_selection,),
    ),
)


def add_commands(parsers: Any) -> None:
    """Add a parser for each command; its namespace has the command's `run`."""
    groups = {
        name: _add_parser(parsers, name, summary).add_subparsers(
            title="commands", required=True, metavar="COMMAND"
        )
        for name, summary in SUBJECTS.items()
    }
    for command in COMMANDS:
        subject, _, name = command.name.rpartition(" ")
        parser = _add_parser(groups.get(subject, parsers), name, command.summary)
        parser.add_argument("--format", choices=FORMATS, default=TABLE, help=f"by default {TABLE}")
        for add_arguments in command.arguments:
            add_arguments(parser)
        parser.set_defaults(run=command.run)


def _add_parser(parsers: Any, name: str, summary: str) -> ArgumentParser:
    parser: ArgumentParser = parsers.add_parser(name, help=summary, description=summary)
    return parser
