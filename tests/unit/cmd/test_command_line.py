# SPDX-License-Identifier: Apache-2.0
"""The options that name files of configuration may follow the command; debug is that of the command line."""

import pytest

from tracker_worker.cmd.command_line import configuration_first, is_debug


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("node list", "node list"),
        ("--config-file=a node list", "--config-file=a node list"),
        ("node list --config-file a --format json", "--config-file=a node list --format json"),
        ("node --config-file=a list --sort vms", "--config-file=a node list --sort vms"),
        (
            "--config-dir a node list --config-file b --config-dir c",
            "--config-dir=a --config-file=b --config-dir=c node list",
        ),
        ("node list --config-f a", "node list --config-f a"),
        ("node show -- --config-file", "node show -- --config-file"),
    ],
)
def test_options_of_configuration_come_first_in_their_order(given: str, expected: str) -> None:
    assert configuration_first("program", given.split()) == expected.split()


def test_option_without_its_file_ends_the_program_as_argparse_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        configuration_first("program", ["node", "list", "--config-file"])
    assert end.value.code == 2
    assert "program: error: argument --config-file: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("node list", False),
        ("--debug node list", True),
        ("-d node list", True),
        ("--config-file debug node list --disabled", False),
        ("--debug --nodebug node list", False),
        ("--once --debug --node a", True),
    ],
)
def test_debug_is_that_of_the_command_line(given: str, expected: bool) -> None:
    assert is_debug(given.split()) is expected
