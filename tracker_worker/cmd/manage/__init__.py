# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage: manages the database, the queues, the nodes, the settings and the dead letters."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from oslo_config import cfg

from tracker_worker.cmd import bootstrap, misconfiguration
from tracker_worker.cmd.failures import exit_code_of, log_to_stderr, print_diagnostic, reading_options
from tracker_worker.cmd.manage import (
    database,
    dead_letter_replay,
    dead_letters,
    node_removal,
    nodes,
    queues,
    settings,
)
from tracker_worker.cmd.manage.formatting import PROGRAM
from tracker_worker.cmd.manage.selection import add_filters, add_selection
from tracker_worker.core.records import PARKED

Run = Callable[[cfg.ConfigOpts, Any], int]

_MAX_ROWS = 1_000_000
_MAX_DAYS = 3650


def main() -> int:
    """Run a command; exit code 0 success, 1 failure, 2 wrong command line, 130 interrupted."""
    return run(cfg.CONF, sys.argv[1:])


def run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    """Run one command with this configuration; return the exit code."""
    bootstrap.register(conf)
    conf.register_cli_opt(cfg.SubCommandOpt("command", title="commands", handler=_add_commands))
    return exit_code_of(PROGRAM, lambda: _run(conf, arguments), failed=1)


def _run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    with reading_options(conf):
        conf(arguments, project="tracker-worker", prog=PROGRAM, version=version("tracker-worker"))
    # Not to the log file: it belongs to the worker.
    log_to_stderr(debug=conf.debug)
    for text in misconfiguration.unknown_options(conf):
        print_diagnostic(PROGRAM, text)
    code: int = conf.command.run(conf, conf.command)
    return code


def _add_commands(parsers: Any) -> None:
    db = _group(parsers, "db", "the database's schema and old rows")
    sync = _command(db, "sync", database.sync)
    sync.add_argument(
        "--version", dest="revision", default="head", metavar="REVISION", help="by default the newest"
    )
    _command(db, "version", database.version)
    purge = _command(db, "purge", database.purge)
    purge.add_argument(
        "--days",
        type=_number(_MAX_DAYS),
        metavar="N",
        help="retention of receipts, by default [tracker] receipt_days",
    )
    purge.add_argument("--dry-run", action="store_true", help="count the rows instead of deleting them")

    queue = _group(parsers, "queues", "the exchange and the queues on the broker")
    _command(queue, "declare", queues.declare_all)
    _command(queue, "list", queues.show_list)

    node = _group(parsers, "node", "the nodes, their usage and the history of their events")
    _command(node, "list", nodes.show_list)
    _command(node, "show", nodes.show).add_argument("name_of_node", metavar="NODE")
    history = _command(node, "history", nodes.history)
    history.add_argument("name_of_node", metavar="NODE")
    _add_limit(history)
    _command(node, "rebuild", nodes.rebuild).add_argument("name_of_node", metavar="NODE")
    remove = _command(node, "remove", node_removal.remove)
    remove.add_argument("name_of_node", metavar="NODE")
    remove.add_argument("--host", help="remove the node only if it belongs to this host")
    remove.add_argument("--force", action="store_true", help="remove the node although it has claims")

    shared = _group(parsers, "settings", "the settings that all workers of a database share")
    _command(shared, "show", settings.show)
    _command(shared, "accept", settings.accept)

    letter = _group(parsers, "dead-letter", "events that could not be applied")
    listed = _command(letter, "list", dead_letters.show_list)
    _add_limit(listed)
    for parser in (listed, _command(letter, "summary", dead_letters.summary)):
        parser.add_argument("--state", choices=dead_letters.STATES, default=PARKED)
        add_filters(parser)
    _command(letter, "show", dead_letters.show).add_argument("id", metavar="ID")
    replay = _command(letter, "replay", dead_letter_replay.replay)
    add_selection(replay)
    replay.add_argument("--force", action="store_true", help="replay letters that may do harm, too")
    add_selection(_command(letter, "discard", dead_letters.discard))


def _group(parsers: Any, name: str, help: str) -> Any:
    parser = parsers.add_parser(name, help=help, description=help)
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def _command(parsers: Any, name: str, command: Run) -> Any:
    summary = (command.__doc__ or "").partition("\n")[0]
    parser = parsers.add_parser(name, help=summary, description=summary)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="by default table")
    parser.set_defaults(run=command)
    return parser


def _add_limit(parser: Any) -> None:
    parser.add_argument(
        "--limit", type=_number(_MAX_ROWS), default=100, metavar="N", help="the newest N, by default 100"
    )


def _number(maximum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if text.isdecimal() and 1 <= int(text) <= maximum:
            return int(text)
        raise ArgumentTypeError(f"a number from 1 to {maximum} is needed, not {text!r}")

    return convert
