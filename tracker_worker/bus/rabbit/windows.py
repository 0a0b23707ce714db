# SPDX-License-Identifier: Apache-2.0
"""How much each channel may be sent, so that the bodies of all fit into a budget of bytes. Pure.

RabbitMQ bounds what it sends by messages alone (prefetch). A message that does not fit is refused, with all
that follow it on its channel: the channel has to be opened again, with limits that fit the sizes seen.
"""

from msgspec import Struct


class MemoryBudget:
    """The bytes of bodies that all channels of a connection hold. Belongs to the connection's thread."""

    def __init__(self, limit: int, channels: int) -> None:
        self.limit = limit
        self.share = limit // channels
        """What a channel may hold while others are short of memory."""
        self.used = 0


class Limits(Struct, frozen=True):
    """The most that a channel holds: messages, and bytes where there is a bound besides the budget.

    A single message may be larger.
    """

    prefetch: int
    size: int | None = None


class Window:
    """What one channel holds of a budget, within its limits.

    `full` is the prefetch where memory is no concern. With `fixed_prefetch` only the bytes are limited
    further: a quorum queue that hands out a part of what was returned to it, and has that part returned too,
    hands it out after the rest. With the same prefetch all that was returned is handed out at once.
    """

    def __init__(
        self, budget: MemoryBudget, full: int, *, fixed_prefetch: bool, limits: Limits | None = None
    ) -> None:
        self._budget = budget
        self._full = Limits(full)
        self._fixed_prefetch = fixed_prefetch
        self.limits = limits or self._full
        self._messages = 0
        self._held = 0
        self._refused: int | None = None
        self._seen = 0
        self._seen_bytes = 0
        self._has_room_again = False

    def admit(self, size: int) -> bool:
        """Take in a message, or refuse it and all that follow it."""
        if self._refused is None and not self._fits(size):
            self._refused = size
        if self._refused is not None:
            return False
        self._messages += 1
        self._held += size
        self._budget.used += size
        self._record_size(size)
        return True

    def release(self, size: int) -> None:
        """Give back what a settled message took."""
        self._messages -= 1
        self._held -= size
        self._budget.used -= size

    def reopen(self, limits: Limits) -> "Window":
        """Return the window of the channel that takes this one's place, and give everything back."""
        self._budget.used -= self._held
        return Window(self._budget, self._full.prefetch, fixed_prefetch=self._fixed_prefetch, limits=limits)

    @property
    def refuses(self) -> bool:
        """Whether it has refused a message, and takes no more."""
        return self._refused is not None

    @property
    def narrow(self) -> bool:
        """Whether its limits are not the full ones."""
        return self.limits != self._full

    def narrower(self) -> Limits:
        """Return limits with which messages of the sizes seen fit the share.

        After a refusal the prefetch is always smaller, down to 1: with the same one the same message would
        be refused again, and what is held now be sent again for nothing.
        """
        if self._fixed_prefetch:
            return Limits(self.limits.prefetch, self._budget.share)
        size = self._held + (self._refused or 0)
        messages = self._messages + self.refuses
        fitting = self._budget.share * messages // max(size, 1)
        if self.refuses and fitting >= self.limits.prefetch:
            fitting = self._messages
        return Limits(max(1, min(self.limits.prefetch, fitting)))

    def is_greedy(self) -> bool:
        """Tell whether it holds more than its share, and narrower limits would change that."""
        return self._held > self._budget.share and self.narrower() != self.limits

    def has_room(self) -> bool:
        """Tell whether it is worth while to ask again for what was refused.

        It gives up what it holds, and most of the channel's messages may be sent again for it. With a fixed
        prefetch the limits stay as they are, and the same messages would leave no room again: it waits until
        all that it holds is settled.
        """
        if self._fixed_prefetch and self._messages:
            return False
        others = self._budget.used - self._held
        needed = max(self._refused or 0, self._budget.share // 2)
        fits = not others or others + needed <= self._budget.limit
        return self.refuses and fits and self._held <= self._budget.share // 2

    def may_widen(self) -> bool:
        """Tell whether a narrow window is empty, and a full one of the last messages would have fitted."""
        return self.narrow and self._has_room_again and not self._messages

    def _fits(self, size: int) -> bool:
        """Tell whether a message may be taken in. One that is larger than a bound may when it is alone."""
        limit = self.limits.size
        own = limit is None or not self._held or self._held + size <= limit
        return own and (not self._budget.used or self._budget.used + size <= self._budget.limit)

    def _record_size(self, size: int) -> None:
        self._seen += 1
        self._seen_bytes += size
        if self._seen >= self._full.prefetch:
            self._has_room_again = self._seen_bytes <= self._budget.share
            self._seen = self._seen_bytes = 0
