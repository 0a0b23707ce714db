# SPDX-License-Identifier: Apache-2.0
"""Which of the events that are waiting run together, which alone, and in which order. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tracker_worker.bus.delivery import Delivery

Counted = tuple[Delivery, int]
"""A delivery, and at how many deaths of a worker it was under way."""


def in_parts(deliveries: Sequence[Counted]) -> Iterator[tuple[list[Delivery], int]]:
    """Yield the deliveries that run together, with their count: a suspect is alone, others have 0.

    The order of a partition is kept. The partitions come in this order: those with an event that has met a
    death alone, the most deaths first, so that one that was hit by chance is settled before chance hits it
    again; those without suspects; those with other suspects, most of which kill nothing but take long,
    one by one.
    """
    most: dict[int, int] = {}
    for delivery, count in deliveries:
        most[delivery.partition] = max(most.get(delivery.partition, 0), count)

    def place(counted: Counted) -> int:
        deaths = most[counted[0].partition]
        return deaths if deaths <= 1 else -deaths

    for count, part in groupby(sorted(deliveries, key=place), key=lambda counted: counted[1]):
        yield from _parts([delivery for delivery, _ in part], count)


def _parts(deliveries: list[Delivery], count: int) -> Iterable[tuple[list[Delivery], int]]:
    if count == 0:
        return [(deliveries, count)]
    return [([delivery], count) for delivery in deliveries]
