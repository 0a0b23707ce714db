# SPDX-License-Identifier: Apache-2.0
"""Which messages of a channel the broker has confirmed: all up to one, without gaps. Pure."""

import math


class Confirms:
    """The confirms of one channel in confirm mode, whose messages have the delivery tags 1, 2, and so on.

    `confirmed` is how many messages, counted from the first, the broker has; `refused` tells whether it has
    refused one. A confirm of several messages covers those that it has not settled before, so that one behind
    a refused message says nothing of that one.
    """

    def __init__(self) -> None:
        self.confirmed = 0
        self._early: set[int] = set()
        self._first_refused = math.inf

    @property
    def refused(self) -> bool:
        """Whether the broker has refused a message. It counts none from there on."""
        return self._first_refused < math.inf

    def acknowledge(self, delivery_tag: int, multiple: bool) -> None:
        """Count basic.ack: of one message, or of all up to it."""
        if multiple:
            upto = int(min(delivery_tag, self._first_refused - 1))
            self.confirmed = max(self.confirmed, upto)
            self._early = {tag for tag in self._early if tag > self.confirmed}
        else:
            self._early.add(delivery_tag)
        while self.confirmed + 1 in self._early:
            self.confirmed += 1
            self._early.remove(self.confirmed)

    def refuse(self, delivery_tag: int, multiple: bool) -> None:
        """Note basic.nack: of one message, or of all up to it that were not settled before."""
        first = self.confirmed + 1 if multiple else delivery_tag
        self._first_refused = min(self._first_refused, first)
