# SPDX-License-Identifier: Apache-2.0
"""What a lane does on SQLite it does on a server: the functional tests again, on each of them."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.statements import reject_nothing
from tests.functional.test_lane import *  # noqa: F403
from tests.functional.test_lane_attempts import *  # type: ignore[assignment]  # noqa: F403
from tests.functional.test_lane_failures import *  # noqa: F403
from tests.functional.test_lane_lone_commands import *  # noqa: F403
from tests.functional.test_lane_repeated_audits import *  # noqa: F403
from tests.functional.test_purge import *  # noqa: F403
from tests.functional.test_statements import (  # noqa: F401
    test_a_batch_of_duplicates_costs_the_same_for_any_number_of_events,
    test_a_batch_of_everything_costs_the_same_for_any_number_of_events,
    test_the_dearest_batch_costs_the_same_for_any_number_of_events,
)
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import METADATA

MIGRATED = {"postgresql": "migrated_database", "mariadb": "migrated_mariadb"}


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database for all of these tests: one each would be more than half of their cost."""
    server = request.getfixturevalue(request.param)
    made = server.new_database(request.getfixturevalue(MIGRATED[request.param]))
    yield made
    server.drop_database(made)


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """An engine on a database that has no rows and takes all."""
    made = create_engine(url)
    reject_nothing(made)
    with made.begin() as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(table.delete())
    yield made
    made.dispose()
