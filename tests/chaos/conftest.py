# SPDX-License-Identifier: Apache-2.0
"""The two sizes of a fault test, and its row in the table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import pytest

from tests.chaos.report import Row

T = TypeVar("T")


class Size(Protocol):
    """Picks one of two sizes."""

    def __call__(self, share: T, whole: T) -> T: ...


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    """Picks between CI's share and the full size: `casts = size(3_000, 20_000)`."""
    full = request.config.getoption("--chaos")

    def pick(share: T, whole: T) -> T:
        return whole if full else share

    return pick


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Puts rows into the table at the end of the run, and fails unless all are clean."""

    def put(*rows: Row) -> None:
        request.node.user_properties.extend(row.as_property() for row in rows)
        assert all(row.clean for row in rows), rows

    return put


@pytest.fixture
def report_parked(request: pytest.FixtureRequest) -> Callable[[Row, int], None]:
    """Puts a row into the table, and fails unless it is clean but for this number of parked events."""

    def put(row: Row, parked: int) -> None:
        request.node.user_properties.append(row.as_property())
        others = [line for line in row.wrong if " is parked: " not in line]
        assert (row.parked, others) == (parked, []), row
        assert replace(row, parked=0, wrong=()).clean, row

    return put
