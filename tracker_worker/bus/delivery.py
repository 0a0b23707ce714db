# SPDX-License-Identifier: Apache-2.0
"""What the bus hands to the worker, and how the worker answers it."""

from typing import Any, Protocol

Answer = dict[str, Any] | Exception


class Delivery(Protocol):
    """One message as it came. `settle` is called once, after the commit, by the lane's thread."""

    @property
    def body(self) -> bytes:
        """The message's bytes, envelope included."""
        ...

    @property
    def partition(self) -> int:
        """The partition whose queue it came from."""
        ...

    @property
    def redelivered(self) -> bool:
        """Whether the broker has handed it out before."""
        ...

    def settle(self, answer: Answer) -> None:
        """Reply if it was a call, and let the broker forget it."""
        ...
