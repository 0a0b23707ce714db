# SPDX-License-Identifier: Apache-2.0
"""A node's backlog hardly delays the calls of another node on the same worker."""

import statistics
from collections.abc import Callable

import pytest

from tests.chaos.backlog import Backlog
from tests.chaos.conftest import Size
from tests.delivery.load import server_of

BUSY_NODE, CALLED_NODE = "node-00", "node-01"
MEDIAN_EVENTS, MOST_EVENTS = 256, 1_000
"""Of the backlog, while one call waits: less than a batch, and a few at most, whatever waits behind them."""
CALLER_LOG = "caller.log"


@pytest.mark.timeout(600)  # With --chaos, most of the time is for 100,000 events of one node.
@pytest.mark.parametrize("database", ["database_url", "sqlite_url"], ids=["postgresql", "sqlite"])
def test_a_backlog_of_one_node_does_not_delay_calls_for_another(
    database: str,
    request: pytest.FixtureRequest,
    vhost_url: str,
    size: Size,
    report: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    waiting, calls = size(30_000, 100_000), size(29, 99)
    casts = {BUSY_NODE: waiting, CALLED_NODE: 1 + calls}
    assert server_of(BUSY_NODE) != server_of(CALLED_NODE)
    with Backlog(vhost_url, request.getfixturevalue(database), casts) as trial:
        trial.publish_events((BUSY_NODE, n) for n in range(waiting))
        order = {
            "url": trial.broker.client_url,
            "exchange": trial.broker.exchange,
            "node": CALLED_NODE,
            "calls": calls,
        }
        caller = trial.processes.start(order, "-m", "tests.chaos.caller", log=CALLER_LOG)
        trial.start()
        seconds = trial.processes.result(caller, CALLER_LOG)
        settled = trial.settled()
        row = trial.finish(f"{waiting} waiting events of one node, {trial.engine.dialect.name}", calls)
    p50, (*_, all_but_one, slowest) = statistics.median(seconds), sorted(seconds)
    # Events and not seconds: what else the processors do slows down both. They may stop one caller longer.
    half, most = (round(value * settled / sum(seconds)) for value in (p50, all_but_one))
    with capsys.disabled():
        figures = [f"{value * 1000:.0f} ms" for value in (p50, all_but_one, slowest)]
        line = "\n{}: calls p50 {}, all but one {}, most {}; {} events of the backlog a call, all but one {}"
        print(line.format(trial.engine.dialect.name, *figures, half, most))
    assert settled < waiting, "the backlog was worked off before the last call"
    report(row)
    assert half < MEDIAN_EVENTS, (settled, sorted(seconds))
    assert most < MOST_EVENTS, (settled, sorted(seconds))
