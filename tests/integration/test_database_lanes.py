# SPDX-License-Identifier: Apache-2.0
"""What a lane does on SQLite it does on a server: the functional tests again, on each of them."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.test_lane import *  # noqa: F403
from tests.functional.test_lane_attempts import *  # noqa: F403
from tests.functional.test_lane_failures import *  # noqa: F403
from tests.functional.test_purge import *  # noqa: F403
from tests.functional.test_statements import (  # noqa: F401
    test_a_batch_of_duplicates_costs_the_same_for_any_number_of_events,
    test_a_batch_of_everything_costs_the_same_for_any_number_of_events,
    test_the_dearest_batch_costs_the_same_for_any_number_of_events,
)
from tracker_worker.db.engine import create_engine


@pytest.fixture(params=["database_url", "mariadb_url"], ids=["postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    made = create_engine(request.getfixturevalue(request.param))
    yield made
    made.dispose()
