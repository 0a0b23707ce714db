# SPDX-License-Identifier: Apache-2.0
"""Puts the adapter into a nova-compute before its ComputeManager is made."""

import time
import uuid
from collections.abc import Callable

from nova.compute import resource_tracker

from tracker_worker.nova import hooks, options
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.mirror import MirrorResourceTracker
from tracker_worker.nova.replace import ReplaceResourceTracker
from tracker_worker.nova.tap import TapResourceTracker, trackers
from tracker_worker.rpcapi import TrackerAPI

__all__ = ["install", "trackers"]

_TRACKERS = {
    options.TAP: (TapResourceTracker, hooks.hook_tracker),
    options.MIRROR: (MirrorResourceTracker, hooks.hook_tracker),
    options.REPLACE: (ReplaceResourceTracker, hooks.hook_replacing_tracker),
}


def install(mode: str, connect: Callable[[], TrackerAPI], timeout: float = 60) -> None:
    """Put the tracker of `mode` in place of Nova's, and hook the rest, once a process.

    `connect` is called for each ResourceTracker that Nova makes; what it raises ends nova-compute.
    """
    tracker, hook = _TRACKERS[mode]
    tracker.new_casts = staticmethod(
        lambda: CastQueue(connect(), _new_id, time.sleep, time.monotonic, timeout)
    )
    hook(tracker)
    hooks.hook_nova()
    resource_tracker.ResourceTracker = tracker


def _new_id() -> str:
    return str(uuid.uuid4())
