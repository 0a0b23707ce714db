# SPDX-License-Identifier: Apache-2.0
"""The option --no-skips, and the line about skipped integration tests: see tests/servers/skips.py."""

from collections.abc import Generator

import pytest

from tests.servers import skips

Reporting = Generator[None, pytest.TestReport, pytest.TestReport]
Collecting = Generator[None, pytest.CollectReport, pytest.CollectReport]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped integration test is a failure")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Reporting:
    report = yield
    if item.config.getoption("--no-skips"):
        skips.forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Collecting:
    report = yield
    if collector.config.getoption("--no-skips"):
        skips.forbid_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    line = skips.summary(terminalreporter.stats.get("skipped", []))
    if line:
        terminalreporter.write_line(line, yellow=True)
