# SPDX-License-Identifier: Apache-2.0
"""The two sizes of a fault, and its row."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.chaos.report import Row

T = TypeVar("T")


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Callable[[T, T], T]:
    """Picks between CI's share and the full size: `casts = size(3_000, 20_000)`."""
    full = request.config.getoption("--chaos")
    return lambda share, whole: whole if full else share


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Puts rows into the table at the end of the run, and fails unless all are clean."""

    def put(*rows: Row) -> None:
        request.node.user_properties.extend(row.as_property() for row in rows)
        assert all(row.clean for row in rows), rows

    return put
