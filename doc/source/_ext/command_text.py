# SPDX-License-Identifier: Apache-2.0
"""The commands of tracker-worker-manage as reStructuredText, of the table of which --help is made."""

from collections.abc import Iterable
from typing import Any

from tracker_worker.cmd.manage import (
    arguments,
    commands,
    node_arguments,
    node_commands,
    parser,
    placement_commands,
)
from tracker_worker.cmd.manage.commands import COMMANDS, SUBJECTS
from tracker_worker.cmd.manage.formatting import PROGRAM
from tracker_worker.cmd.manage.parser import FAILED, Command, add_arguments

SOURCES = tuple(
    module.__file__
    for module in (arguments, commands, node_arguments, node_commands, parser, placement_commands)
)
COMMAND_OF = {command.name: command for command in COMMANDS}


class _Recorder:
    """Takes the place of a parser: records the arguments that are added to it."""

    def __init__(self) -> None:
        self.arguments: list[tuple[str, str]] = []
        self._usage: list[str | _Group] = []

    @property
    def usage(self) -> list[str]:
        """The usage of each argument, and of each group of which one excludes another."""
        return [part if isinstance(part, str) else part.text for part in self._usage]

    def add_argument(self, *names: str, **options: Any) -> None:
        """Record an argument, as its usage shows it, with its help."""
        value = "" if options.get("action") == "store_true" else options.get("metavar") or names[0]
        if "choices" in options and "metavar" not in options:
            value = "|".join(options["choices"])
        if isinstance(count := options.get("nargs"), int):
            value = " ".join([value] * count)
        if not names[0].startswith("-"):
            self._record(f"[{value} ...]" if count == "*" else value, value, options["help"])
        else:
            text = f"{names[0]} {value}".rstrip()
            self._record(f"[{text}]", text, options["help"])

    def add_mutually_exclusive_group(self, *, required: bool = False) -> "_Group":
        """Record the arguments of a group as alternatives of one another."""
        group = _Group(self.arguments, required=required)
        self._usage.append(group)
        return group

    def _record(self, usage: str, text: str, help_text: str) -> None:
        self._usage.append(usage)
        self.arguments.append((text, help_text))


class _Group(_Recorder):
    """Records arguments of which one at most may be given, or one has to be."""

    def __init__(self, arguments: list[tuple[str, str]], *, required: bool) -> None:
        super().__init__()
        self.arguments = arguments
        self._form = "{{{}}}" if required else "[{}]"

    @property
    def text(self) -> str:
        """The usage of the group."""
        return self._form.format(" | ".join(part.strip("[]") for part in self.usage))


def _recorded(command: Command) -> _Recorder:
    recorder: Any = _Recorder()
    add_arguments(recorder, command)
    return recorder  # type: ignore[no-any-return]


def synopsis() -> str:
    """Return the usage of every command, as a literal block."""
    subjects = [*SUBJECTS, ""]
    ordered = sorted(COMMANDS, key=lambda each: subjects.index(each.name.rpartition(" ")[0]))
    return _literal(
        "\n".join(_usage(command, [part for part in _recorded(command).usage if part != "[--format FORMAT]"]))
        for command in ordered
    )


def section(command: Command) -> str:
    """Return the section of a command up to its description: summary, usage and arguments."""
    recorder = _recorded(command)
    parts = [
        command.name,
        "-" * len(command.name),
        "",
        command.summary,
        "",
        _literal(_usage(command, recorder.usage)),
    ]
    parts += [f"``{name}``\n    {_sentence(text)}\n" for name, text in recorder.arguments]
    return "\n".join(parts)


def _usage(command: Command, arguments: Iterable[str]) -> list[str]:
    """Return the usage of a command, in lines that fit a page."""
    start = f"{PROGRAM} {command.name}"
    lines, line = [], start
    for part in arguments:
        if len(line) + len(part) > 80:
            lines.append(line)
            line = " " * len(start)
        line += f" {part}"
    return [*lines, line]


def end(command: Command) -> str:
    """Return what follows the description of a command: keys, examples and its own exit code."""
    parts = []
    if command.columns:
        parts += ["Keys of ``--format json`` and ``yaml``:", ""]
        parts += [f"``{name}``\n    {_escaped(text)}." for name, text in command.columns.items()]
        parts.append("")
    if command.examples:
        parts += ["Examples:", ""]
        parts.append(_literal(f"# {what}\n{PROGRAM} {call}" for call, what in command.examples.items()))
    if command.failure != FAILED:
        parts += [f"Exit code 1: {command.failure}.", ""]
    for code, meaning in command.more_exit_codes.items():
        parts += [f"Exit code {code}: {meaning}.", ""]
    return "\n".join(parts)


def _sentence(text: str) -> str:
    return f"{_escaped(text[0].upper())}{_escaped(text[1:])}."


def _escaped(text: str) -> str:
    return text.replace("*", r"\*")


def _literal(lines: Iterable[str]) -> str:
    indented = [f"    {line}" for block in lines for line in block.split("\n")]
    return "\n".join(["::", "", *indented, ""])
