# SPDX-License-Identifier: Apache-2.0
"""Which acknowledgements are due: as few as possible, and no tag twice."""

from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.bus.rabbit.unacked import UnackedDeliveries


def delivered(count: int) -> UnackedDeliveries:
    unacked = UnackedDeliveries()
    for tag in range(1, count + 1):
        unacked.deliver(tag, received_at=float(tag))
    return unacked


def settle(unacked: UnackedDeliveries, *tags: int) -> list[tuple[int, bool]]:
    for tag in tags:
        unacked.settle(tag)
    return list(unacked.acks())


def test_nothing_is_left_once_all_is_acknowledged_and_not_before() -> None:
    unacked = delivered(1)
    assert len(unacked) == 1
    unacked.settle(1)
    assert len(unacked) == 1
    assert list(unacked.acks()) == [(1, True)]
    assert len(unacked) == 0


def test_oldest_delivery_is_the_first_unsettled_one() -> None:
    unacked = delivered(3)
    assert unacked.oldest_at == 1.0
    settle(unacked, 1)
    assert unacked.oldest_at == 2.0
    settle(unacked, 2, 3)
    assert unacked.oldest_at is None


def test_settled_prefix_takes_one_multiple_ack() -> None:
    assert settle(delivered(256), *range(1, 257)) == [(256, True)]


def test_prefix_settled_in_any_order_takes_one_multiple_ack() -> None:
    assert settle(delivered(4), 3, 1, 2) == [(3, True)]


def test_settled_behind_a_held_delivery_is_acked_alone() -> None:
    unacked = delivered(5)
    assert settle(unacked, 1, 3, 4) == [(1, True), (3, False), (4, False)]
    assert settle(unacked, 5) == [(5, False)]


def test_held_delivery_settled_at_last_is_acked_by_its_own_tag() -> None:
    """Not by the last tag delivered: that one is acknowledged, and RabbitMQ knows it no more."""
    unacked = delivered(3)
    settle(unacked, 2, 3)
    assert settle(unacked, 1) == [(1, True)]


def test_nothing_settled_needs_no_ack() -> None:
    assert settle(delivered(3)) == []
    assert settle(UnackedDeliveries()) == []


@given(st.permutations(range(1, 13)), st.sets(st.integers(1, 11)))
def test_each_tag_is_acked_once_and_only_after_it_is_settled(order: list[int], pauses: set[int]) -> None:
    """The broker's side: a tag named must be outstanding; multiple takes all outstanding ones up to it."""
    unacked, outstanding, settled = delivered(12), set(range(1, 13)), set()
    for number, tag in enumerate(order):
        unacked.settle(tag)
        settled.add(tag)
        if number in pauses:
            continue
        for last, multiple in unacked.acks():
            assert last in outstanding
            acked = {tag for tag in outstanding if tag <= last} if multiple else {last}
            assert acked <= settled
            outstanding -= acked
        assert outstanding.isdisjoint(settled)
    assert (11 in pauses) or not outstanding
