# SPDX-License-Identifier: Apache-2.0
"""Which deliveries of a channel are not acknowledged yet, and which acknowledgements are due. Pure."""

from collections.abc import Iterator


class UnackedDeliveries:
    """The delivery tags of one channel, in the order of delivery. Belongs to the channel's thread.

    RabbitMQ closes a channel on which a tag is acknowledged twice. `acks` therefore returns each tag once,
    and with `multiple` only a tag that was not acknowledged before.
    """

    def __init__(self) -> None:
        self._unsettled: dict[int, float] = {}  # In the order of their tags.
        self._settled: list[int] = []

    def __len__(self) -> int:
        return len(self._unsettled) + len(self._settled)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest delivery that is not settled was received; None if there is none."""
        return next(iter(self._unsettled.values()), None)

    def deliver(self, tag: int, received_at: float) -> None:
        """Add a delivery. Its tag is higher than all earlier ones."""
        self._unsettled[tag] = received_at

    def settle(self, tag: int) -> None:
        """Mark a delivery for acknowledgement. Raises KeyError for a tag that was settled before."""
        del self._unsettled[tag]
        self._settled.append(tag)

    def acks(self) -> Iterator[tuple[int, bool]]:
        """Yield the due acknowledgements as (tag, multiple), each once.

        One acknowledgement with `multiple` covers the deliveries settled before the first unsettled one.
        Those settled after it are acknowledged one by one, so that they do not fill the prefetch window while
        a delivery is held.
        """
        first = next(iter(self._unsettled), None)
        settled, self._settled = self._settled, []
        prefix = [tag for tag in settled if first is None or tag < first]
        if prefix:
            yield max(prefix), True
        if first is not None:
            yield from ((tag, False) for tag in settled if tag > first)
