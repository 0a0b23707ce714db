# SPDX-License-Identifier: Apache-2.0
"""The properties run on copies of the same migrated database as the functional tests."""

from collections.abc import Callable

import pytest

from tests.functional.conftest import empty_database  # noqa: F401

Examples = Callable[[int], int]


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> Examples:
    """How many examples a property is tried on: all with --chaos, a tenth with --quick, a third else."""
    share = 1 if request.config.getoption("--chaos") else 10 if request.config.getoption("--quick") else 3
    return lambda full: full // share
