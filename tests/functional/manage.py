# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage and tracker-worker-status in the test's own process, on the test's own database."""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tracker_worker.cmd import manage, status


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undo what a program sets: what it hides from the log another test looks for there."""
    records, hook = logging.getLogRecordFactory(), sys.excepthook
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        logging.setLogRecordFactory(records)
        sys.excepthook = hook


class Manage:
    """Runs commands; `out` and `err` are those of the last one."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._directory = directory
        self.file = directory / "manage.conf"
        self.configure()
        self.out = ""
        self.err = ""

    def configure(self, more: str = "") -> None:
        """Write the configuration: the test's own database, no broker, and what is given."""
        own = f"[DEFAULT]\nstate_path = {self._directory}\ntransport_url = fake://\n"
        self.file.write_text(own + more)

    def run(self, *arguments: str) -> int:
        """Run a command; what the command line's parser exits with is its code too."""
        return self._run(manage.run, arguments)

    def check(self) -> tuple[int, dict[str, tuple[int, str | None]]]:
        """Run the upgrade check: its exit code, and what it says of each subject."""
        code = self._run(status.run, ("upgrade", "check", "--json"))
        checks = json.loads(self.out)["checks"]
        return code, {one["check"]: (one["result"], one["details"]) for one in checks}

    def json(self, *arguments: str) -> Any:
        """Run a command that has to go well; the one document that it prints."""
        assert self.run(*arguments, "--format", "json") == 0, self.err
        return json.loads(self.out)

    def complaint(self, *arguments: str) -> str:
        """Run a command that has to fail; the one line that it says."""
        assert self.run(*arguments) == 1, self.out
        (line,) = self.err.splitlines()
        assert self.out == ""
        return line.removeprefix("tracker-worker-manage: ")

    def _run(self, program: Callable[[cfg.ConfigOpts, list[str]], int], arguments: Iterable[str]) -> int:
        self._capsys.readouterr()
        with logging_restored():
            try:
                code = program(cfg.ConfigOpts(), ["--config-file", str(self.file), *arguments])
            except SystemExit as error:
                assert isinstance(error.code, int)
                code = error.code
        self.out, self.err = self._capsys.readouterr()
        return code
