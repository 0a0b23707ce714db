# SPDX-License-Identifier: Apache-2.0
"""Log lines as oslo.log writes them: it adds the error that is being handled to what is logged meanwhile."""

import io
import logging
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log
from oslo_log.formatters import ContextFormatter

from tests.builders import INSTANCE, NODE, an_instance, command
from tests.functional.lanes import LaneBench
from tests.functional.statements import Fault, out_of_range
from tracker_worker.db.tables import CLAIMS
from tracker_worker.domain.commands import AnyCommand


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """What the worker's log file would have."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([])
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(ContextFormatter(config=conf))
    logger = logging.getLogger("tracker_worker")
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)


def boot() -> AnyCommand:
    return command("instance_claim", instance=an_instance())


def test_error_of_the_database_for_which_an_event_is_parked_is_logged_once(
    bench: LaneBench, log_lines: io.StringIO
) -> None:
    bench.track()
    bench.deliver(boot(), "one")
    with Fault(bench.engine, "INSERT INTO claims", out_of_range, times=10):
        bench.run()
    lines = log_lines.getvalue().splitlines()
    (line,) = [line for line in lines if "value out of range" in line]
    assert "The database refuses event one: DBError: value out of range" in line
    assert any("Event one" in line and "is parked as dead letter" in line for line in lines)


def test_held_node_is_logged_without_the_error_that_oslo_log_would_add(
    a_bench: Callable[..., LaneBench], log_lines: io.StringIO
) -> None:
    first = a_bench()
    first.track()
    first.send(boot())
    with first.engine.begin() as connection:
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.instance_uuid == INSTANCE))
    other = a_bench()
    other.deliver(boot(), "again")
    other.run()
    (line,) = [line for line in log_lines.getvalue().splitlines() if "and its events are held" in line]
    assert NODE in line
    assert "NodesBroken" not in line, line
