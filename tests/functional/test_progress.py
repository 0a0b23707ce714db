# SPDX-License-Identifier: Apache-2.0
"""The progress of a long command: a bar on a terminal, lines elsewhere.

Each command here ends when its input says so.
"""

import os
import subprocess
import sys

import pytest

from tests.functional.terminal import on_terminal

SETTINGS = "from tracker_worker.cmd import progress; progress.BAR_SECONDS = 0; progress.LINE_SECONDS = 0.01\n"
ELAPSED = SETTINGS + "with progress.elapsed_time('migrating'): input()\nprint('done')"
COUNTED = SETTINGS + (
    "with progress.progress_bar(4, 'replaying', 'letters') as advance:\n"
    "    while input() != 'end': advance(1)\n"
)


@pytest.mark.parametrize(("program", "shown"), [(ELAPSED, "migrating"), (COUNTED, "0/4 letters")])
def test_terminal_shows_a_bar(program: str, shown: str) -> None:
    with on_terminal("manage", before=f"{program}\nraise SystemExit") as terminal:
        assert "━" in terminal.read_until(shown)
        os.write(terminal.master, b"end\n")
        terminal.read_all()
        assert terminal.process.wait(60) == 0


def test_pipe_gets_lines_on_standard_error() -> None:
    with started(ELAPSED) as process:
        line = process.stderr.readline()  # type: ignore[union-attr]
        assert line.startswith("migrating: ")
        assert process.communicate("end\n", timeout=60)[0].endswith("done\n")


def test_pipe_gets_lines_with_counts_and_the_time_left() -> None:
    with started(COUNTED.replace("0.01", "0")) as process:
        _, err = process.communicate("1\n2\nend\n", timeout=60)
    first, second = err.splitlines()
    assert first.startswith("replaying: 1 of 4 letters, about ")
    assert second.startswith("replaying: 2 of 4 letters, about ")


def started(program: str) -> subprocess.Popen[str]:
    """Start a program with pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
