# SPDX-License-Identifier: Apache-2.0
"""A lease that a thread holds while it works: one process at a time does the work for a database."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from tracker_worker.db import leases


class Lease:
    """Acquires and renews a named lease with the transactions that it is given. Belongs to one thread.

    `owner` is an id that no other holder has; `monotonic` is in seconds and never set back. Raises the
    database's errors.
    """

    def __init__(
        self,
        name: str,
        owner: str,
        seconds: float,
        transaction: Callable[[], AbstractContextManager[sa.Connection]],
        monotonic: Callable[[], float],
    ) -> None:
        self._name = name
        self._owner = owner
        self._seconds = seconds
        self._transaction = transaction
        self._monotonic = monotonic
        self._until = 0.0
        self._ask_again_at = 0.0

    @property
    def was_refused(self) -> bool:
        """Whether another owner held it when it was asked for last."""
        return self._ask_again_at > 0.0

    def owned(self) -> bool:
        """Tell whether the lease is held; renews it before it runs out, and asks for it now and then."""
        now = self._monotonic()
        if self._until - now > self._seconds / 2:
            return True
        if now < self._ask_again_at:
            return False
        with self._transaction() as connection:
            owned: bool = leases.acquire(connection, self._name, self._owner, self._seconds)
        # Counted from before the statement: here it ends no later than there.
        self._until = now + self._seconds if owned else 0.0
        self._ask_again_at = 0.0 if owned else now + self._seconds / 4
        return owned

    def release(self) -> None:
        """Give the lease back, if it is held."""
        if self._until:
            with self._transaction() as connection:
                leases.release(connection, self._name, self._owner)
            self._until = 0.0
