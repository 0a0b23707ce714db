# SPDX-License-Identifier: Apache-2.0
"""Which of the events that are waiting run together, which alone, and in which order. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tracker_worker.bus.delivery import Delivery

Counted = tuple[Delivery, int]
"""A delivery, and at how many deaths of a worker it was under way."""


def in_parts(deliveries: Sequence[Counted]) -> Iterator[tuple[list[Delivery], int]]:
    """Yield the deliveries that run together, with their count: a suspect is alone, others have 0.

    The order of a partition is kept. Partitions with a suspect come last, so that the others get on before it
    kills.
    """
    suspected = {delivery.partition for delivery, count in deliveries if count}
    ordered = sorted(deliveries, key=lambda counted: counted[0].partition in suspected)
    for count, part in groupby(ordered, key=lambda counted: counted[1]):
        yield from _parts([delivery for delivery, _ in part], count)


def _parts(deliveries: list[Delivery], count: int) -> Iterable[tuple[list[Delivery], int]]:
    if count == 0:
        return [(deliveries, count)]
    return [([delivery], count) for delivery in deliveries]
