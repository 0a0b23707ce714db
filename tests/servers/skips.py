# SPDX-License-Identifier: Apache-2.0
"""What a test run says and does about integration tests that were skipped.

A run on a developer's machine skips the tests whose server is not installed, and says so in one line for each
source of packages.
With `--no-skips`, as in CI, no integration test may be skipped, whatever the reason.
"""

import re
from collections.abc import Iterable

import pytest

from tests.servers.server import Server

DIRECTORIES = ("tests/integration", "tests/chaos")
NOT_INSTALLED = "not installed: "
WAYS_OUT = {
    "Debian": "Debian packages are missing ({}): `sudo make test-packages` installs them",
    "PyPI": "packages of PyPI cannot be installed ({}): the first test that needs them does, with a network",
}
"""What to do, by the source of packages."""
_MISSING = re.compile(rf"{NOT_INSTALLED}(?P<package>\S+) \((?P<source>\w+)\)")


def skip_unless_installed(server: type[Server]) -> None:
    """Skip the test where the server's package is missing."""
    if not server.program():
        pytest.skip(missing(server))


def missing(server: type[Server]) -> str:
    """Return the reason of a skip."""
    return f"{NOT_INSTALLED}{server.package} ({server.source})"


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skipped integration test or module into a failure; an expected failure is none."""
    skipped = report.outcome == "skipped" and not hasattr(report, "wasxfail")
    if skipped and report.nodeid.startswith(DIRECTORIES):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which --no-skips forbids: {reason_of(report)}"


def summary(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """Return the lines about tests that miss their server; none when there are none."""
    found = [_MISSING.search(reason_of(report)) for report in reports]
    missing = [(match["source"], match["package"]) for match in found if match]
    lines = []
    for source, way_out in WAYS_OUT.items():
        packages = [package for each, package in missing if each == source]
        if packages:
            named = ", ".join(sorted(set(packages)))
            lines.append(f"{len(packages)} integration tests skipped, for {way_out.format(named)}")
    return lines


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
