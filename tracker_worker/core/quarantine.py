# SPDX-License-Identifier: Apache-2.0
"""The rules of the quarantine: which waiting events run together, which in isolation, in which order. Pure.

An event that was in flight when a worker crashed is a suspect: it may be a poison message.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.delivery import Delivery


class Attempts(Struct, frozen=True, order=True):
    """The attempts of an event that is not settled: how many were begun, and whether the event was decoded
    at one of them.
    """

    begun: int = 0
    decoded: bool = False

    def begin(self) -> "Attempts":
        """Return the attempts with one more begun."""
        return replace(self, begun=self.begun + 1)

    def decode(self) -> "Attempts":
        """Return the attempts with the event decoded at the last one."""
        return replace(self, decoded=True)

    def leave_one(self, max_attempts: int) -> bool:
        """Tell whether the next attempt is the last one: a crash at that one parks the event.

        A first attempt is not, although `max_attempts` may be 1: nothing would run.
        """
        return 0 < self.begun == max_attempts - 1


NO_ATTEMPTS = Attempts()
"""The event was not in flight when a worker crashed."""

Counted = tuple[Delivery, Attempts]


def isolate_suspects(deliveries: Sequence[Counted]) -> Iterator[tuple[list[Delivery], Attempts]]:
    """Yield the deliveries that run together, with their attempts: a suspect is alone, others have none.

    The order of a partition is kept. Partitions with a suspect come last, the one with the most attempts at
    the end, so that the other events are settled before a suspect crashes the worker.
    """
    most = {delivery.partition: NO_ATTEMPTS for delivery, _ in deliveries}
    for delivery, attempts in deliveries:
        most[delivery.partition] = max(most[delivery.partition], attempts)
    ordered = sorted(deliveries, key=lambda counted: most[counted[0].partition])
    for attempts, group in groupby(ordered, key=lambda counted: counted[1]):
        yield from _parts([delivery for delivery, _ in group], attempts)


def _parts(deliveries: list[Delivery], attempts: Attempts) -> Iterable[tuple[list[Delivery], Attempts]]:
    if attempts == NO_ATTEMPTS:
        return [(deliveries, attempts)]
    return [([delivery], attempts) for delivery in deliveries]
