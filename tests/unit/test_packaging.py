# SPDX-License-Identifier: Apache-2.0
"""What pip makes of a tree without git: one that was exported, or unpacked from an archive."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SET_UP_AND_ASK_PBR = """
import runpy, setuptools
setuptools.setup = lambda **options: None
runpy.run_path("setup.py")
from pbr import packaging
print(packaging.get_version("tracker-worker"))
"""


def test_exported_tree_has_a_version_for_pip(tmp_path):
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.rst"):
        shutil.copy(ROOT / name, tmp_path)
    # Where the tests run in a directory of some repository, its git must not be asked.
    environment = {name: value for name, value in os.environ.items() if name != "PBR_VERSION"}
    version = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SET_UP_AND_ASK_PBR],
        cwd=tmp_path,
        env=environment | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        capture_output=True,
        text=True,
    )
    assert (version.returncode, version.stdout) == (0, "0.0.0\n"), version.stderr


def test_package_data_names_files_that_exist():
    """A pattern that matches nothing is a file that is missing from every wheel."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["tracker_worker"]
    assert "py.typed" in patterns
    for pattern in patterns:
        assert list((ROOT / "tracker_worker").glob(pattern)), pattern
