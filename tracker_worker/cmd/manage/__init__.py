# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage: manages the database, the queues, the nodes, the settings and the dead letters."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

from oslo_config import cfg
from oslo_db import options as db_options

from tracker_worker.cmd.command_line import configuration_first, is_debug
from tracker_worker.cmd.failures import exit_code_of, log_to_stderr, print_diagnostic, reading_options
from tracker_worker.cmd.manage.commands import COMMANDS, SUBJECTS
from tracker_worker.cmd.manage.formatting import PROGRAM
from tracker_worker.cmd.manage.parser import add_commands
from tracker_worker.cmd.unknown_options import unknown_options_of_commands
from tracker_worker.conf import opts

Run = Callable[[cfg.ConfigOpts, Any], int]

# As oslo.log has it, whose other options have no effect here: the log file belongs to the worker.
_DEBUG = cfg.BoolOpt("debug", short="d", default=False, help="Log debug messages on standard error.")


def main() -> int:
    """Run a command; exit code 0 success, 1 failure, 2 wrong command line, 130 interrupted."""
    try:
        return run(cfg.CONF, sys.argv[1:])
    finally:
        gc.freeze()  # Python's last collection would look at all imports: a quarter of the time of a list.


def run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    """Run one command with this configuration; return the exit code."""
    opts.register_opts(conf)
    db_options.set_defaults(conf)
    conf.register_cli_opt(_DEBUG)
    conf.register_cli_opt(cfg.SubCommandOpt("command", title="commands", handler=_add_commands))
    return exit_code_of(PROGRAM, lambda: _run(conf, arguments), failed=1)


def _run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    with _without_collecting_garbage():
        run_command = _prepare(conf, arguments)
    return run_command(conf, conf.command)


def _prepare(conf: cfg.ConfigOpts, arguments: list[str]) -> Run:
    """Read the command line and the configuration; return the function of the command."""
    with reading_options(conf):
        conf(
            configuration_first(PROGRAM, arguments),
            project="tracker-worker",
            prog=PROGRAM,
            version=version("tracker-worker"),
            description="Inspect and manage the database, the queues, the nodes and the dead letters.",
            epilog="'SUBJECT COMMAND --help' has examples, the keys of documents and exit codes: 0 success, "
            "1 failure, 2 wrong command line, 130 interrupted.",
        )
    log_to_stderr(debug=is_debug(arguments))
    for text in unknown_options_of_commands(conf):
        print_diagnostic(PROGRAM, text)
    module, _, name = conf.command.run.partition(":")
    function: Run = getattr(import_module(f"{__name__}.{module}"), name)
    return function


@contextmanager
def _without_collecting_garbage() -> Iterator[None]:
    """Collect no garbage: a start leaves little, and to look for it takes a tenth of the time of a list."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _add_commands(parsers: Any) -> None:
    add_commands(parsers, SUBJECTS, COMMANDS)
