# SPDX-License-Identifier: Apache-2.0
"""Puts the adapter into a nova-compute before its ComputeManager is made."""

import time
import uuid
from collections.abc import Callable

from nova.compute import resource_tracker

from tracker_worker.nova import hooks, options
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.mirror import MirrorResourceTracker
from tracker_worker.nova.tap import TapResourceTracker, trackers
from tracker_worker.rpcapi import TrackerAPI

__all__ = ["install", "trackers"]

_TRACKERS = {options.TAP: TapResourceTracker, options.MIRROR: MirrorResourceTracker}


def install(mode: str, connect: Callable[[], TrackerAPI]) -> None:
    """Put the tracker of `mode` in place of Nova's, and hook the rest, once a process.

    `connect` is called for each ResourceTracker that Nova makes; what it raises ends nova-compute.
    """
    tracker = _TRACKERS[mode]
    tracker.new_casts = staticmethod(lambda: CastQueue(connect(), _new_id, time.sleep))
    hooks.hook_tracker(tracker)
    hooks.hook_nova()
    resource_tracker.ResourceTracker = tracker


def _new_id() -> str:
    return str(uuid.uuid4())
