# SPDX-License-Identifier: Apache-2.0
"""The options, and the last lines of a run: skipped integration tests, and the rows of tests/chaos.

They are here because pytest has to know them before it comes to the directories.
"""

import gc
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.chaos import report as chaos
from tests.servers import skips

# How long an example takes tells of the machine, not of the code: the first text of all, say, makes
# hypothesis read its tables.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("tests"), max_examples=20)
settings.load_profile("tests")

pytest_plugins = ["tests.servers.fixtures"]

Reporting = Generator[None, pytest.TestReport, pytest.TestReport]
Collecting = Generator[None, pytest.CollectReport, pytest.CollectReport]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped integration test is a failure")
    parser.addoption(
        "--chaos", action="store_true", help="what is drawn by lot, and the faults, in full sizes"
    )
    parser.addoption("--quick", action="store_true", help="what is drawn by lot in small sizes")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of all collections of garbage: it stays to the end."""
    gc.collect()
    gc.freeze()


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
    for line in skips.summary(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, yellow=True)
    rows = chaos.table(
        report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])
    )
    if rows:
        terminalreporter.section("faults under load")
        terminalreporter.write(rows)
