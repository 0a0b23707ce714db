# SPDX-License-Identifier: Apache-2.0
"""The parser of tracker-worker-manage, and the texts of --help, of which the documentation is made too."""

from argparse import Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping
from textwrap import fill
from typing import Any

from msgspec import Struct

from tracker_worker.cmd.manage.formatting import FORMATS, PROGRAM, TABLE

_WIDTH = 78
FAILED = "the command failed: standard error says why"


class Command(Struct, frozen=True):
    """A command: its one or two words, the function that runs it, and its texts.

    `run` is "module:function", relative to this package. The function gets the configuration and the
    arguments, and returns the exit code. `columns` are the keys of its JSON and YAML documents, with their
    meanings; they do not change within a major version. `examples` are the arguments of calls, with what each
    call does. `failure` is the meaning of exit code 1, `more_exit_codes` have those that only this command
    has.
    """

    name: str
    run: str
    summary: str
    arguments: tuple[Callable[[Any], None], ...] = ()
    columns: Mapping[str, str] = {}
    examples: Mapping[str, str] = {}
    failure: str = FAILED
    more_exit_codes: Mapping[int, str] = {}
    has_format: bool = True

    def exit_codes(self) -> dict[int, str]:
        """Return the meaning of each exit code."""
        failures = {1: self.failure, 2: "the command line is wrong", **self.more_exit_codes}
        return {0: "success", **failures, 130: "interrupted"}

    def epilog(self) -> str:
        """Return the end of --help: examples, columns and exit codes."""
        examples = [f"  # {what}\n  {PROGRAM} {call}" for call, what in self.examples.items()]
        parts = [
            ("examples", examples),
            ("keys of --format json and yaml", _entries(self.columns)),
            ("exit status", _entries({str(code): text for code, text in self.exit_codes().items()})),
        ]
        return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in parts if lines)


def _entries(texts: Mapping[str, str]) -> list[str]:
    width = max(map(len, texts), default=0)
    indent = " " * (width + 4)
    lines = (f"  {name:{width}}  {text}" for name, text in texts.items())
    return [fill(line, _WIDTH, subsequent_indent=indent).rstrip() for line in lines]


def add_commands(parsers: Any, subjects: Mapping[str, str], commands: Iterable[Command]) -> None:
    """Add a parser for each command; its namespace has the command's `run`.

    `subjects` are the first words of the commands that have two, with a summary of each.
    """
    groups = {
        name: parsers.add_parser(name, help=summary, description=summary).add_subparsers(
            title="commands", required=True, metavar="COMMAND"
        )
        for name, summary in subjects.items()
    }
    for command in commands:
        subject, _, name = command.name.rpartition(" ")
        parser = groups.get(subject, parsers).add_parser(
            name, help=command.summary, add_help=False, formatter_class=RawDescriptionHelpFormatter
        )
        parser.add_argument("-h", "--help", action=_Help, command=command)
        add_arguments(parser, command)
        parser.set_defaults(run=command.run)


def add_arguments(parser: ArgumentParser, command: Command) -> None:
    """Add the arguments of a command to its parser."""
    for add in command.arguments:
        add(parser)
    if command.has_format:
        parser.add_argument(
            "--format",
            choices=FORMATS,
            default=TABLE,
            metavar="FORMAT",
            help=f"one of {', '.join(FORMATS)}; by default {TABLE}",
        )


def whole_parser(subjects: Mapping[str, str], commands: Iterable[Command]) -> ArgumentParser:
    """Return a parser of the whole command line, with the options that oslo.config adds to it."""
    parser = ArgumentParser(prog=PROGRAM)
    parser.add_argument("--config-file", metavar="FILE", help="a configuration file")
    parser.add_argument("--config-dir", metavar="DIR", help="a directory of configuration files")
    parser.add_argument("--debug", "-d", action="store_true", help="log debug messages on standard error")
    parser.add_argument("--version", action="version", version="", help="print the version")
    add_commands(parser.add_subparsers(title="commands", metavar="COMMAND"), subjects, commands)
    return parser


class _Help(Action):
    """Prints the help of a command. Its texts are wrapped now: no other call of a program shows them."""

    def __init__(self, command: Command, **options: Any) -> None:
        super().__init__(nargs=0, help="show this help message and exit", **options)
        self._command = command

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        parser.description = fill(self._command.summary, _WIDTH)
        parser.epilog = self._command.epilog()
        parser.print_help()
        parser.exit()
