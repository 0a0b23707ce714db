# SPDX-License-Identifier: Apache-2.0
"""Old receipts go, counted back from the newest of their own node, in small deletes."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.builders import NODE, command
from tests.functional.lanes import NOW, OTHER_NODE, names_of_partition
from tests.functional.statements import Fault, disk_full, watched
from tracker_worker.bus.envelope import encode
from tracker_worker.db import receipts
from tracker_worker.db.receipts import Receipt
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.worker.purge import ROWS_AT_ONCE, Purge

DAYS = 7


def received(bench, age_in_days, *event_ids, node=NODE):
    """Events of a node that were settled so long ago."""
    for event_id in event_ids:
        bench.deliver(command("build_failed", node=node), event_id)
    bench.run()
    bench.date(NOW - timedelta(days=age_in_days), *event_ids)


def an_old_receipt(number):
    return Receipt(f"old-{number}", "", NODE, number, None, "applied", {})


@pytest.fixture
def purge(engine):
    return Purge(engine, DAYS, lambda: None)


def test_receipts_older_than_the_newest_of_their_node_by_so_many_days_go(bench, purge):
    received(bench, 8, "old-1", "old-2")
    received(bench, 6.9, "young")
    received(bench, 0, "newest")
    assert purge.run_once() == 2
    assert bench.receipts().keys() == {"young", "newest"}
    assert purge.run_once() == 0


def test_a_receipt_of_exactly_that_age_stays(bench, purge):
    received(bench, DAYS, "border")
    received(bench, 0, "newest")
    assert purge.run_once() == 0


def test_a_node_that_has_been_silent_keeps_what_it_had(bench, purge):
    """A worker that was down for a month still knows every event that may come again."""
    received(bench, 30, "silent-1", node=OTHER_NODE)
    received(bench, 29, "silent-2", node=OTHER_NODE)
    received(bench, 30, "old")
    received(bench, 0, "newest")
    assert purge.run_once() == 1
    assert bench.receipts().keys() == {"silent-1", "silent-2", "newest"}


def test_receipts_without_a_node_age_among_themselves(bench, purge):
    for age, event_id in ((20, "bad-old"), (10, "bad-newest")):
        bench.deliver_body(encode("get_node", {"event_id": event_id}))
        bench.run()
        bench.date(NOW - timedelta(days=age), event_id)
    received(bench, 0, "newest")
    assert purge.run_once() == 1
    assert bench.receipts().keys() == {"bad-newest", "newest"}


def test_a_purged_node_keeps_its_sequence(bench, purge):
    bench.track()
    received(bench, 0, "newest")
    purge.run_once()
    assert bench.sequence() == 2
    assert bench.send(command("build_failed")).answer["sequence"] == 3


def test_no_transaction_deletes_more_than_its_share(bench, purge):
    count = 2 * ROWS_AT_ONCE + 10
    with bench.engine.begin() as connection:
        receipts.add(connection, [an_old_receipt(number) for number in range(count)])
        connection.execute(sa.update(RECEIPTS).values(recorded_at=NOW - timedelta(days=30)))
    received(bench, 0, "newest")
    with watched(bench.engine) as seen:
        assert purge.run_once() == count
    deletes = [s for s in seen if s.sql.startswith("DELETE")]
    assert len(deletes) == 3
    assert bench.receipts().keys() == {"newest"}


def test_a_purge_of_many_nodes_is_bounded_by_what_is_old(bench, purge):
    for number, node in zip(range(50), names_of_partition(0), strict=False):
        received(bench, 0, f"newest-{number}", node=node)
    with watched(bench.engine) as seen:
        assert purge.run_once() == 0
    assert not [s for s in seen if s.sql.startswith("DELETE")]


def test_a_purge_that_was_interrupted_goes_on_the_next_time(bench, purge):
    received(bench, 8, "old")
    received(bench, 0, "newest")
    with Fault(bench.engine, "DELETE", disk_full), pytest.raises(Exception, match="disk is full"):
        purge.run_once()
    assert bench.receipts().keys() == {"old", "newest"}
    assert purge.run_once() == 1


def test_the_thread_stops_at_once(purge):
    purge.start()
    purge.stop()
