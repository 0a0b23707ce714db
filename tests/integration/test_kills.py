# SPDX-License-Identifier: Apache-2.0
"""The worker is killed again and again in the middle of its work: nothing is lost, doubled or overtaken."""

import pytest

from tests.delivery.load import node_names
from tests.delivery.oracle import judge, untold
from tests.delivery.processes import Broker
from tests.delivery.trial import try_tracker_worker

CASTS = 10_000
KILLS = 20


@pytest.mark.timeout(300)  # A minute, where nothing else runs: most of it are 21 starts.
def test_every_cast_is_applied_once_and_in_order_whatever_is_killed(vhost_url, database_url):
    row = try_tracker_worker(Broker(vhost_url, "tracker"), database_url, CASTS, KILLS)
    verdict = row.verdict
    assert (verdict.applied, verdict.lost, verdict.twice, verdict.inversions) == (CASTS, 0, 0, 0), row
    assert verdict.parked == 0, row
    assert verdict.clean, row
    assert row.at_work > KILLS / 2, f"most kills have found an idle worker: {row}"


WHOLE = [f"{node}.{n}" for n in range(3) for node in node_names()]
FIRST, SECOND, THIRD = "node-00.0", "node-00.1", "node-00.2"
OTHERS = [event_id for event_id in WHOLE if not event_id.startswith("node-00")]


@pytest.mark.parametrize(
    ("ids", "lost", "twice", "inversions"),
    [
        ([FIRST, SECOND, THIRD], 0, 0, 0),
        ([FIRST, THIRD], 1, 0, 0),
        ([FIRST, SECOND, SECOND, THIRD], 0, 1, 0),
        ([FIRST, THIRD, SECOND], 0, 0, 1),
    ],
)
def test_the_oracle_sees_what_is_lost_repeated_or_overtaken(ids, lost, twice, inversions):
    verdict = judge(len(WHOLE), [*ids, *OTHERS])
    assert (verdict.lost, verdict.twice, verdict.inversions) == (lost, twice, inversions)


def usage(sequence, since):
    figures = {"vcpus_used": 1, "memory_mb_used": 2, "local_gb_used": 3}
    data = {"node": "n", "sequence": sequence, "since": since, **figures}
    return {
        "message_id": str(sequence),
        "event_type": "compute_node.usage",
        "payload": {"nova_object.data": data},
    }


@pytest.mark.parametrize(
    ("told", "complaints"),
    [
        ([usage(1, 0), usage(2, 1), usage(1, 0), usage(5, 2)], 0),
        ([usage(1, 0), usage(5, 2)], 1),
        ([usage(2, 1), usage(1, 0), usage(5, 2)], 3),
        ([usage(1, 0), usage(2, 1)], 1),
    ],
    ids=["repeated", "a gap", "overtaken", "the last is missing"],
)
def test_the_oracle_sees_gaps_in_what_was_told(told, complaints):
    assert len(untold(told, {"n": (5, 1, 2, 3)})) == complaints
