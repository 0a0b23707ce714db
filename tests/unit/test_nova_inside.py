# SPDX-License-Identifier: Apache-2.0
"""The exit status of the adapter's own tests, which several processes run."""

from pathlib import Path

import pytest

from tests.nova.environment import Environment
from tests.nova.trial import run_inside

ONE = "*check_audits*"
"""In the arguments of one process alone."""


def ending(directory: Path, how: str) -> Environment:
    """Return an environment whose interpreter ends in this way if it runs ONE, and well otherwise."""
    python = directory / "python"
    python.write_text(f'#!/bin/sh\necho ran "$@"\ncase "$*" in {ONE}) {how} ;; esac\n')
    python.chmod(0o755)
    return Environment(python, directory)


@pytest.mark.parametrize(("how", "status"), [("exit 0", 0), ("exit 1", 1), ("kill -KILL $$", 1)])
def test_process_that_fails_or_is_killed_fails_the_run(tmp_path: Path, how: str, status: int) -> None:
    assert run_inside(ending(tmp_path, how), 2) == status
