# SPDX-License-Identifier: Apache-2.0
"""Counters add up over lanes, and a snapshot does not change."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.core.event_counts import EventCounts
from tracker_worker.core.stats import SECONDS, Histogram, Stats


@pytest.mark.parametrize(("value", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (60.0, 14), (61.0, 15)])
def test_value_is_counted_in_the_first_bucket_whose_bound_is_not_below_it(value: float, bucket: int) -> None:
    histogram = Histogram.of(SECONDS)
    histogram.observe(value, 3)
    assert histogram.counts[bucket] == sum(histogram.counts) == 3
    assert histogram.total == 3 * value


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_sum_of_two_histograms_is_the_histogram_of_all_values(one: list[float], two: list[float]) -> None:
    parts = [Histogram.of(SECONDS), Histogram.of(SECONDS), Histogram.of(SECONDS)]
    for values, histogram in zip((one, two, one + two), parts, strict=True):
        for value in values:
            histogram.observe(value)
    added = parts[0].plus(parts[1])
    assert added.counts == parts[2].counts
    assert math.isclose(added.total, parts[2].total)


def test_snapshot_adds_up_the_lanes_and_stays_as_it_is() -> None:
    stats = Stats()
    lanes = stats.new_lane(), stats.new_lane()
    for lane in lanes:
        lane.counts.count("instance_claim", "granted")
        lane.wait.observe(0.2)
        lane.retries += 1
    stats.lost_replies = 1
    snapshot = stats.snapshot()
    lanes[0].counts.count("instance_claim", "granted")
    lanes[0].counts.count(None, "parked")
    lanes[0].wait.observe(0.2)
    stats.lost_replies = 2
    (lane,) = snapshot.lanes
    assert lane.counts.events == {("instance_claim", "granted"): 2}
    assert (sum(lane.wait.counts), lane.retries, snapshot.lost_replies) == (2, 2, 1)
    assert stats.snapshot().lanes[0].counts.events["unknown", "parked"] == 1


def test_worker_without_lanes_has_counters_at_zero() -> None:
    (lane,) = Stats().snapshot().lanes
    assert (lane.counts.events, sum(lane.run.counts)) == ({}, 0)


@pytest.mark.parametrize("counter", ["events", "refusals", "corrections", "dead_letters"])
def test_lane_that_counts_something_new_during_a_snapshot_does_not_fail_it(counter: str) -> None:
    lane = EventCounts()
    counts = getattr(lane, counter)
    counts.update(["one", "another"])

    class Interleaved(Counter[Any]):
        def __setitem__(self, key: Any, count: int) -> None:
            counts["new"] += 1  # As the lane's thread does between two steps of the snapshot.
            super().__setitem__(key, count)

    total = EventCounts(**{counter: Interleaved(one=1)})
    total.add(lane)
    assert {key: getattr(total, counter)[key] for key in ("one", "another")} == {"one": 2, "another": 1}
