# SPDX-License-Identifier: Apache-2.0
"""Decides which unanswered calls need a heartbeat: the server side of oslo.messaging's call monitor. Pure.

A caller gives up when it has received neither a heartbeat nor the reply for `call_monitor_timeout` seconds.
The worker sends heartbeats while it runs a call, and while the call waits in a lane or is held.
"""

import math
from collections.abc import Iterator

from msgspec import Struct

from tracker_worker.bus.rabbit.replies import Heartbeat, Reply, heartbeat_for
from tracker_worker.core.delivery import Delivery

CHECK_SECONDS = 0.5
"""Seconds between checks of the waiting calls. A check decodes the message of a call that is not answered."""


class _Call(Struct):
    """`expires_at` is the end of the caller's timeout, which no heartbeat extends; `heartbeat` is None until
    the first check.
    """

    expires_at: float
    due_at: float
    heartbeat: Heartbeat | None = None


class CallMonitor:
    """The unanswered calls of one connection. Belongs to the consumer's thread. Times are monotonic seconds.

    `next_check` is the time at which `due` has to be called next: infinity while no call waits.
    """

    def __init__(self) -> None:
        self._calls: dict[Delivery, _Call] = {}
        self.next_check = math.inf

    def begin(self, delivery: Delivery, timeout: float, now: float) -> None:
        """Add a call whose caller gives up after `timeout` seconds."""
        self._calls[delivery] = _Call(now + timeout, now)
        self.next_check = min(self.next_check, now + CHECK_SECONDS)

    def end(self, delivery: Delivery) -> None:
        """Remove an answered delivery, which gets no more heartbeats. A cast is ignored."""
        self._calls.pop(delivery, None)

    def due(self, now: float) -> Iterator[Reply]:
        """Yield the heartbeats that are due.

        A call's first heartbeat is due at its first check, because it may have waited in the queue for long.
        Calls are removed if their caller asks for no heartbeats or has given up, or if the broker redelivers
        them.
        """
        for delivery, call in list(self._calls.items()):
            # Whatever else is due: a call that is kept keeps its body, which the memory budget has no more.
            if not delivery.live or call.expires_at <= now:
                del self._calls[delivery]
                continue
            if call.due_at > now:
                continue
            call.heartbeat = call.heartbeat or heartbeat_for(delivery.body, delivery.compression)
            if call.heartbeat is None:
                del self._calls[delivery]
            else:
                call.due_at = now + call.heartbeat.interval
                yield call.heartbeat.reply
        self.next_check = now + CHECK_SECONDS if self._calls else math.inf
