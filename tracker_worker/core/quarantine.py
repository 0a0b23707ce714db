# SPDX-License-Identifier: Apache-2.0
"""Which of the events that are waiting run together, which alone, and in which order. Pure.

What is kept of the attempts of an event is one number: twice the attempts that were begun, and one more when
the event was decoded at one of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tracker_worker.core.delivery import Delivery

Counted = tuple[Delivery, int]
"""A delivery, and what is kept of its attempts: 0 when it was never under way at a death of a worker."""


def begin(count: int) -> int:
    """Return what is kept once another attempt is begun."""
    return count + 2


def decoded(count: int) -> int:
    """Return what is kept once the event was decoded at the last attempt."""
    return count | 1


def undecoded(deaths: int) -> int:
    """Return what is kept of an event that was under way at so many deaths and never decoded."""
    return 2 * deaths


def deaths_of(count: int) -> int:
    """Return at how many deaths an event was under way."""
    return count // 2


def was_decoded(count: int) -> bool:
    """Tell whether a worker has survived decoding the event."""
    return bool(count % 2)


def without_the_last(
    deliveries: Sequence[Counted], max_attempts: int
) -> tuple[list[Counted], list[Delivery]]:
    """Return the deliveries that may run at any time, and those that one more death would park, with what is
    behind them.

    Kills from outside that follow each other hit the same innocent event again and again.
    """
    resting: set[int] = set()
    now: list[Counted] = []
    later: list[Delivery] = []
    for delivery, count in deliveries:
        if count and deaths_of(count) == max_attempts - 1:
            resting.add(delivery.partition)
        if delivery.partition in resting:
            later.append(delivery)
        else:
            now.append((delivery, count))
    return now, later


def in_parts(deliveries: Sequence[Counted]) -> Iterator[tuple[list[Delivery], int]]:
    """Yield the deliveries that run together, with their count: a suspect is alone, others have 0.

    The order of a partition is kept. Those with a suspect come last, the most suspected one at the end, so
    that the others get on before it kills.
    """
    suspicion = {delivery.partition: 0 for delivery, _ in deliveries}
    for delivery, count in deliveries:
        suspicion[delivery.partition] = max(suspicion[delivery.partition], count)
    ordered = sorted(deliveries, key=lambda counted: suspicion[counted[0].partition])
    for count, part in groupby(ordered, key=lambda counted: counted[1]):
        yield from _parts([delivery for delivery, _ in part], count)


def _parts(deliveries: list[Delivery], count: int) -> Iterable[tuple[list[Delivery], int]]:
    if count == 0:
        return [(deliveries, count)]
    return [([delivery], count) for delivery in deliveries]
