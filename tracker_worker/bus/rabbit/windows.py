# SPDX-License-Identifier: Apache-2.0
"""Limits the messages of each channel, so that the bodies of all channels fit into a memory budget. Pure.

RabbitMQ limits deliveries by number only (prefetch). A channel that receives a message beyond the budget
refuses it and all later ones, and has to be reopened with limits that fit the sizes of its messages.
"""

from msgspec import Struct


class MemoryBudget:
    """The bytes of bodies that all channels of a connection hold. Belongs to the connection's thread."""

    def __init__(self, limit: int, channels: int) -> None:
        self.limit = limit
        self.share = limit // channels
        """Bytes that a channel may hold while others are short of memory."""
        self.used = 0


class Limits(Struct, frozen=True):
    """The limits of a channel: in messages, and in bytes if `size` limits them below the budget.

    A single message may be larger.
    """

    prefetch: int
    size: int | None = None


class Window:
    """One channel's use of the budget, within its limits.

    `full` is the prefetch while memory is not short. With `fixed_prefetch` only the limit in bytes changes.
    If a quorum queue redelivers a part of the returned messages, and these are returned again, it delivers
    them after the rest. With an unchanged prefetch it redelivers all returned messages at once, in order.
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
        """Add a message of `size` bytes, or refuse it and all later ones; tell whether it was added."""
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
        """Remove a settled message of `size` bytes."""
        self._messages -= 1
        self._held -= size
        self._budget.used -= size

    def reopen(self, limits: Limits) -> "Window":
        """Return the window of the channel that replaces this one, and release what this window holds."""
        self._budget.used -= self._held
        return Window(self._budget, self._full.prefetch, fixed_prefetch=self._fixed_prefetch, limits=limits)

    @property
    def refuses(self) -> bool:
        """Whether it has refused a message, and refuses all later ones."""
        return self._refused is not None

    @property
    def narrow(self) -> bool:
        """Whether its limits are not the full ones."""
        return self.limits != self._full

    def narrower(self) -> Limits:
        """Return limits with which messages of the sizes held, and of the refused one, fit the share.

        After a refusal the prefetch is always lower, down to 1: with the same prefetch the broker would
        redeliver the same messages, and the same one would be refused again.
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
        """Tell whether the channel should be reopened to receive what it refused.

        Reopening returns what the window holds, so that most of the messages may be sent again. With a fixed
        prefetch the same messages come first again: the result is False until the refused one fits behind
        them. An event of a broken node may be among them for days.
        """
        others = self._budget.used - self._held
        needed = max(self._refused or 0, self._budget.share // 2)
        if self._fixed_prefetch and self._messages:
            needed = self._held + (self._refused or 0)
            if needed > self._budget.share:
                return False
        fits = not others or others + needed <= self._budget.limit
        return self.refuses and fits and self._held <= self._budget.share // 2

    def may_widen(self) -> bool:
        """Tell whether a narrow window is empty, and the last `full` messages would have fitted the share."""
        return self.narrow and self._has_room_again and not self._messages

    def _fits(self, size: int) -> bool:
        """Tell whether a message fits. A message that is larger than a limit fits if it is the only one."""
        limit = self.limits.size
        own = limit is None or not self._held or self._held + size <= limit
        return own and (not self._budget.used or self._budget.used + size <= self._budget.limit)

    def _record_size(self, size: int) -> None:
        self._seen += 1
        self._seen_bytes += size
        if self._seen >= self._full.prefetch:
            self._has_room_again = self._seen_bytes <= self._budget.share
            self._seen = self._seen_bytes = 0
