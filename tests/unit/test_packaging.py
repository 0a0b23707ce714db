# SPDX-License-Identifier: Apache-2.0
"""What pip makes of a tree without git: one that was exported, or unpacked from an archive."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

WORKERS_OWN = (
    "SQLAlchemy", "alembic", "brotli", "keystoneauth1", "oslo.db", "oslo.upgradecheck", "requests", "rich",
)  # fmt: skip
SQLALCHEMY = re.compile(r"SQLAlchemy==(\d+\.\d+)\.\*")
ROOT = Path(__file__).resolve().parents[2]
SET_UP_AND_ASK_PBR = """
import runpy, setuptools
setuptools.setup = lambda **options: None
runpy.run_path("setup.py")
from pbr import packaging
print(packaging.get_version("tracker-worker"))
"""


def test_exported_tree_has_a_version_for_pip(tmp_path: Path) -> None:
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


def test_package_data_names_files_that_exist() -> None:
    """A pattern that matches nothing is a file that is missing from every wheel."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["tracker_worker"]
    assert "py.typed" in patterns
    for pattern in patterns:
        assert list((ROOT / "tracker_worker").glob(pattern)), pattern


def test_every_program_has_a_manual_page_and_every_page_a_program(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # The configuration of Sphinx adds its extensions.
    pages = runpy.run_path(str(ROOT / "doc" / "source" / "conf.py"))["man_pages"]
    assert sorted(name for _, name, *_ in pages) == sorted(project["scripts"])
    for page, *_ in pages:
        assert (ROOT / "doc" / "source" / f"{page}.rst").exists()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def test_oldest_supported_sqlalchemy_is_the_one_that_tox_and_make_install(project: dict[str, Any]) -> None:
    (bound,) = [each for each in project["optional-dependencies"]["worker"] if each.startswith("SQLAlchemy")]
    oldest = re.fullmatch(r"SQLAlchemy>=(\d+\.\d+)\.\d+", bound)
    assert oldest is not None
    tried = {name: set(SQLALCHEMY.findall((ROOT / name).read_text())) for name in ("tox.ini", "Makefile")}
    assert tried == {"tox.ini": {oldest[1]}, "Makefile": {oldest[1]}}


def test_tests_of_sql_exist() -> None:
    """A test that was renamed fails here, and not only in CI."""
    paths = (ROOT / "tests" / "sql.txt").read_text().split()
    missing = [path for path in paths if not is_test(*path.partition("::")[::2])]
    assert paths and not missing


def is_test(path: str, name: str) -> bool:
    file = ROOT / path
    return f"\ndef {name}(" in file.read_text() if name else file.exists()


def test_ci_runs_the_tests_of_sql_on_the_oldest_sqlalchemy_before_all_tests() -> None:
    for name in ("tox.ini", "Makefile"):
        assert "@tests/sql.txt" in (ROOT / name).read_text()
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[-1] == "make test PYTESTFLAGS=--no-skips"
    assert "make test-sqlalchemy20 PYTESTFLAGS=--no-skips" in commands[:-1]
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def run_without(extra: list[str], code: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in which what an extra brings cannot be imported."""
    names = [re.split(r"[\[><=;]", requirement)[0].strip() for requirement in extra]
    modules = [name.lower().replace(".", "_") for name in names]
    missing = f"import sys; sys.modules |= dict.fromkeys({modules!r}); "
    return subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", missing + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_client_needs_nothing_of_the_worker(project: dict[str, Any]) -> None:
    """What oslo.messaging itself brings, cachetools and oslo.log above all, does not count."""
    extra = [each for each in project["optional-dependencies"]["worker"] if each.startswith(WORKERS_OWN)]
    assert len(extra) == len(WORKERS_OWN)
    done = run_without(extra, "import tracker_worker.rpcapi, tracker_worker.exceptions")
    assert done.returncode == 0, done.stderr


def test_program_without_its_extra_names_it(project: dict[str, Any]) -> None:
    """Without what oslo.messaging brings: oslo.service is there, a half of it."""
    extra = [each for each in project["optional-dependencies"]["worker"] if each.startswith(WORKERS_OWN)]
    done = run_without(extra, "import tracker_worker.cmd.worker")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "pip install 'tracker-worker[worker]', or the extra of the database"
    )
