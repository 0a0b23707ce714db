# SPDX-License-Identifier: Apache-2.0
"""A tracker that is replaced, hooked once a process, beside the one of a nova-compute of Nova's tests."""

from typing import Any

from nova import context
from tracker_worker.nova import hooks
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.replace import ReplaceResourceTracker

hooks.hook_replacing_tracker(ReplaceResourceTracker)


def a_tracker(manager: Any, casts: CastQueue) -> ReplaceResourceTracker:
    """Return a tracker of the manager's host that has made its first audit."""
    ReplaceResourceTracker.new_casts = staticmethod(lambda: casts)
    tracker = ReplaceResourceTracker(manager.host, manager.driver, manager.reportclient)
    tracker.set_service_ref(manager.rt.service_ref)
    tracker.update_available_resource(context.get_admin_context(), manager.host, startup=True)
    return tracker
