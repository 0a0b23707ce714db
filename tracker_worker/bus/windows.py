# SPDX-License-Identifier: Apache-2.0
"""How many messages each channel may be sent, so that their bodies fit into a budget of bytes. Pure.

RabbitMQ bounds what it sends by messages alone (prefetch). A message that does not fit is refused: its
channel has to be opened again, with a prefetch that fits the sizes seen.
"""


class MemoryBudget:
    """The bytes of bodies that all channels of a connection hold. Belongs to the connection's thread."""

    def __init__(self, limit: int, channels: int) -> None:
        self._limit = limit
        self.share = limit // channels
        """What a channel may hold while others are short of memory."""
        self.used = 0

    def fits(self, size: int) -> bool:
        """Tell whether a body may be taken in. One that is larger than the budget may when it is alone."""
        return not self.used or self.used + size <= self._limit


class Window:
    """What one channel holds of a budget, and how many messages it may be sent: its `prefetch`.

    `full` is the prefetch where memory is no concern. `refused` is the size of the message that did not fit:
    none after it is taken.
    """

    def __init__(self, budget: MemoryBudget, prefetch: int, full: int) -> None:
        self._budget = budget
        self.prefetch = prefetch
        self._full = full
        self._messages = 0
        self._held = 0
        self._seen = 0
        self._seen_bytes = 0
        self._roomy = False
        self.refused: int | None = None

    def admit(self, size: int) -> bool:
        """Take in a message, or refuse it and all that follow it."""
        if self.refused is None and not self._budget.fits(size):
            self.refused = size
        if self.refused is not None:
            return False
        self._messages += 1
        self._held += size
        self._budget.used += size
        self._look_back(size)
        return True

    def release(self, size: int) -> None:
        """Give back what a settled message took."""
        self._messages -= 1
        self._held -= size
        self._budget.used -= size

    def close(self) -> None:
        """Give everything back: the channel is closed."""
        self._budget.used -= self._held

    @property
    def narrower(self) -> int:
        """The prefetch with which messages of the size seen fit the share.

        After a refusal it is always smaller, down to 1: with the same one the same message would be refused
        again, and what is held now be sent again for nothing.
        """
        size = self._held + (self.refused or 0)
        messages = self._messages + (self.refused is not None)
        fitting = self._budget.share * messages // max(size, 1)
        if self.refused is not None and fitting >= self.prefetch:
            fitting = self._messages
        return max(1, min(self.prefetch, fitting))

    @property
    def greedy(self) -> bool:
        """Whether it holds more than its share, and a smaller prefetch would mend that."""
        return self._held > self._budget.share and self.narrower < self.prefetch

    @property
    def must_reopen(self) -> bool:
        """Whether there is room for what it has refused."""
        return self.refused is not None and self._budget.fits(self.refused)

    @property
    def may_widen(self) -> bool:
        """Whether a narrow window is empty, and as many messages as fill the full one fitted the share."""
        return self.prefetch < self._full and self._roomy and not self._messages

    @property
    def tight(self) -> bool:
        """Whether it is narrow, or has refused something."""
        return self.refused is not None or self.prefetch < self._full

    def _look_back(self, size: int) -> None:
        self._seen += 1
        self._seen_bytes += size
        if self._seen >= self._full:
            self._roomy = self._seen_bytes <= self._budget.share
            self._seen = self._seen_bytes = 0
