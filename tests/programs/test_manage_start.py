# SPDX-License-Identifier: Apache-2.0
"""A command of tracker-worker-manage imports what it needs: its start is most of the time that it takes."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.functional.manage import Manage
from tracker_worker.cmd.manage.commands import COMMANDS
from tracker_worker.cmd.manage.parser import Command

PROGRAM = """
import sys
from tracker_worker.cmd.manage import main
try:
    code = main()
except SystemExit as end:
    code = end.code
print(code, *sys.modules, file=sys.stderr)
"""
SLOW = {"alembic", "eventlet", "keystoneauth1", "kombu", "oslo_messaging", "requests", "rich", "tenacity"}
"""Packages that take as long to import as a quarter of SQLAlchemy, or more."""


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


def modules_after(*arguments: str) -> set[str]:
    """Run a command that goes well; the modules that the process has imported then."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    assert code in ("0", "None"), done.stderr
    return set(modules)


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_help_imports_no_library_that_only_commands_need(argument: str) -> None:
    assert not modules_after(argument) & (SLOW | {"sqlalchemy", "tracker_worker.domain.node"})


@pytest.mark.parametrize("command", [("node", "list"), ("dead-letter", "list")])
def test_a_list_imports_no_library_but_sqlalchemy(manage: Manage, command: tuple[str, ...]) -> None:
    assert manage.run("db", "sync") == 0
    manage.configure(
        "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n[placement]\nauth_type = password\n"
    )
    found = modules_after("--config-file", str(manage.file), *command)
    assert not found & (SLOW | {"sqlalchemy.orm", "tracker_worker.worker"})


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_the_function_of_each_command_exists(command: Command) -> None:
    module, function = command.run.split(":")
    assert callable(getattr(import_module(f"tracker_worker.cmd.manage.{module}"), function))
