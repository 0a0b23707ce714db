# SPDX-License-Identifier: Apache-2.0
"""What a test run says and does about integration tests that were skipped.

A run on a developer's machine skips the tests whose server is not installed, and says so in one line.
With `--no-skips`, as in CI, no integration test may be skipped, whatever the reason.
"""

from collections.abc import Iterable

import pytest

from tests.servers.server import Server

DIRECTORIES = ("tests/integration", "tests/chaos")
NOT_INSTALLED = "not installed: "


def skip_unless_installed(server: type[Server]) -> None:
    """Skip the test where the server's package is missing."""
    if not server.program():
        pytest.skip(NOT_INSTALLED + server.package)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skipped integration test or module into a failure; an expected failure is none."""
    skipped = report.outcome == "skipped" and not hasattr(report, "wasxfail")
    if skipped and report.nodeid.startswith(DIRECTORIES):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, which --no-skips forbids: {reason_of(report)}"


def summary(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> str:
    """Return the line about tests that miss their server; empty when there are none."""
    reasons = [reason_of(report) for report in reports]
    missing = [reason for reason in reasons if NOT_INSTALLED in reason]
    if not missing:
        return ""
    packages = ", ".join(sorted({reason.partition(NOT_INSTALLED)[2] for reason in missing}))
    return (
        f"{len(missing)} integration tests skipped, for Debian packages are missing ({packages}): "
        "`sudo make test-packages` installs them"
    )


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return why a test was skipped."""
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
