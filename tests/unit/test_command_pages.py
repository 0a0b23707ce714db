# SPDX-License-Identifier: Apache-2.0
"""The page of tracker-worker-manage, also its manual page, has every command, with the texts of --help."""

import re
from pathlib import Path

import pytest
from command_text import COMMAND_OF, end, section, synopsis

from tracker_worker.cmd.manage.commands import COMMANDS, SUBJECTS
from tracker_worker.cmd.manage.parser import Command, whole_parser

PAGE = Path(__file__).resolve().parents[2] / "doc" / "source" / "cli" / "tracker-worker-manage.rst"
EACH = pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])


def test_page_has_each_command_once() -> None:
    named = re.findall(r"^\.\. manage-command:: (.+)$", PAGE.read_text(), re.M)
    assert sorted(named) == sorted(COMMAND_OF)


def test_page_has_the_usage_of_all_commands() -> None:
    assert ".. manage-synopsis::" in PAGE.read_text()
    assert all(f"tracker-worker-manage {command.name}" in synopsis() for command in COMMANDS)


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("node history", "NODE [--limit N]"),
        ("node history", "[--at WHEN | --diff WHEN WHEN]"),
        ("node fit", "{NODE | --all} {--flavor FLAVOR | --instance INSTANCE} [--limits LIMITS]"),
        ("node verify", "{NODE | --all} [--format FORMAT]"),
        ("dead-letter replay", "[ID ...] [--code CODE]"),
        ("completion", "bash|zsh"),
    ],
)
def test_usage_has_alternatives_and_all_values(name: str, usage: str) -> None:
    assert usage in " ".join(section(COMMAND_OF[name]).split())


@EACH
def test_section_of_a_command_has_the_texts_of_its_help(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        whole_parser(SUBJECTS, COMMANDS).parse_args([*command.name.split(), "--help"])
    shown = capsys.readouterr().out
    text = section(command) + end(command)
    assert command.summary in text
    options = set(re.findall(r"--[a-z][a-z-]+", shown.partition("examples:")[0])) - {"--help"}
    assert options == set(re.findall(r"^``(--[a-z-]+)", text, re.M))
    assert all(example in shown and example in text for example in command.examples)
    assert all(f"``{key}``" in text and key in shown for key in command.columns)


@EACH
def test_examples_are_taken_by_the_parser(command: Command) -> None:
    parser = whole_parser(SUBJECTS, COMMANDS)
    for example in command.examples:
        arguments = parser.parse_args(example.partition(" > ")[0].split())
        assert arguments.run == command.run


@EACH
def test_documented_command_has_its_keys_or_no_document(command: Command) -> None:
    assert bool(command.columns) is command.has_format
