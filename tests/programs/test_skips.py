# SPDX-License-Identifier: Apache-2.0
"""A skipped integration test: one line for a developer, a failure for CI. Runs pytest on small projects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.skips import skip_unless_installed

class Missing(RabbitMQ):
    @classmethod
    def program(cls):
        return None

@pytest.fixture(scope="session")
def server():
    skip_unless_installed(Missing)

def test_a(server): pass
def test_b(server): pass
"""
OF_PYPI = TESTS.replace("RabbitMQ", "Placement").replace("rabbitmq", "placement")
SKIPPED_MODULE = "import pytest\npytest.skip('whole module', allow_module_level=True)\n"
SKIPPED_BY_MARK = "import pytest\n@pytest.mark.skip(reason='lazy')\ndef test_c(): pass\n"
XFAIL = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_d(): assert False\n"
HOOKS = (
    "pytest_addoption",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
)
"""All that the small projects need: with the fixtures they would import every server and the worker."""
LINE = (
    "2 integration tests skipped, for Debian packages are missing (rabbitmq-server): "
    "`sudo make test-packages` installs them"
)

LINE_OF_PYPI = (
    "2 integration tests skipped, for packages of PyPI cannot be installed (openstack-placement): "
    "the first test that needs them does, with a network"
)


def run(project: Path, test: str, *options: str, directory: str = "integration") -> tuple[int, str]:
    """Run pytest on a project that has one test file and this project's hooks."""
    file = project / "tests" / directory / "test_it.py"
    file.parent.mkdir(parents=True)
    file.write_text(test)
    (project / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    # Not in tests/, which is the name of the package that it imports.
    (project / "conftest.py").write_text(f"from tests.conftest import {', '.join(HOOKS)}\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider", *options],
        cwd=project,
        # Other plugins' imports would be most of the time.
        env=environment | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_missing_server_is_named_in_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, TESTS, *options)
    assert code == 0, output
    assert output.count("installs them") == 1
    assert LINE in output.splitlines()


def test_server_that_cannot_be_installed_from_pypi_is_named_in_one_line(tmp_path: Path) -> None:
    code, output = run(tmp_path, OF_PYPI)
    assert code == 0, output
    assert LINE_OF_PYPI in output.splitlines()


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_missing_server_fails_where_no_skips_are_allowed(tmp_path: Path, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, TESTS, "--no-skips", *options)
    assert code == 1
    assert "which --no-skips forbids: Skipped: not installed: rabbitmq-server" in output
    assert "2 errors" in output


@pytest.mark.parametrize("test", [SKIPPED_MODULE, SKIPPED_BY_MARK], ids=["module", "mark"])
def test_every_other_skip_fails_too(tmp_path: Path, test: str) -> None:
    code, output = run(tmp_path, test, "--no-skips")
    assert code != 0
    assert "which --no-skips forbids" in output


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    code, output = run(tmp_path, XFAIL, "--no-skips")
    assert code == 0, output


def test_tests_without_servers_may_be_skipped(tmp_path: Path) -> None:
    code, output = run(tmp_path, SKIPPED_BY_MARK, "--no-skips", directory="unit")
    assert code == 0, output


def test_no_line_where_nothing_is_missing(tmp_path: Path) -> None:
    code, output = run(tmp_path, SKIPPED_BY_MARK)
    assert code == 0, output
    assert "installs them" not in output
