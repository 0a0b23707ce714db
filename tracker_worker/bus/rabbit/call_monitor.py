# SPDX-License-Identifier: Apache-2.0
"""Which unanswered calls get a heartbeat, and when: the server's side of oslo.messaging's call monitor. Pure.

A caller with `call_monitor_timeout` gives up as soon as it has heard nothing for so long. oslo.messaging's
servers send it heartbeats while they run its call; here a call waits in a lane, is held or runs.
"""

import math
from collections.abc import Iterator

from msgspec import Struct

from tracker_worker.bus.rabbit.replies import Heartbeat, Reply, heartbeat_for
from tracker_worker.core.delivery import Delivery

CHECK_SECONDS = 0.5
"""Between looks at the calls that wait. A call that is answered before one is never looked into."""


class _Call(Struct):
    """`expires_at` is when its caller gives it up whatever it hears; `heartbeat` is None before the first
    look.
    """

    expires_at: float
    due_at: float
    heartbeat: Heartbeat | None = None


class CallMonitor:
    """The unanswered calls of one connection. Belongs to the consumer's thread. Times are monotonic seconds.

    `next_check` is when `due` wants to be asked next: never while no call waits.
    """

    def __init__(self) -> None:
        self._calls: dict[Delivery, _Call] = {}
        self.next_check = math.inf

    def begin(self, delivery: Delivery, timeout: float, now: float) -> None:
        """Note a call that its caller gives up after `timeout` seconds."""
        self._calls[delivery] = _Call(now + timeout, now)
        self.next_check = min(self.next_check, now + CHECK_SECONDS)

    def end(self, delivery: Delivery) -> None:
        """Note that a delivery, call or not, is answered: it gets no heartbeat any more."""
        self._calls.pop(delivery, None)

    def due(self, now: float) -> Iterator[Reply]:
        """Yield the heartbeats that are due.

        The first one is due at the first look: the call may have waited in its queue for long. Calls whose
        caller does not ask for heartbeats, or has given up, and those that the broker hands out again are
        forgotten.
        """
        for delivery, call in list(self._calls.items()):
            if call.due_at > now:
                continue
            call.heartbeat = call.heartbeat or heartbeat_for(delivery.body, delivery.compression)
            if call.heartbeat is None or not delivery.live or call.expires_at <= now:
                del self._calls[delivery]
            else:
                call.due_at = now + call.heartbeat.interval
                yield call.heartbeat.reply
        self.next_check = now + CHECK_SECONDS if self._calls else math.inf
