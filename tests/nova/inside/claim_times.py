# SPDX-License-Identifier: Apache-2.0
"""Times the claim of a build in Nova alone and in each size of the adapter: in turn, in one process.

Runs in Nova's environment as one of its functional tests. `python -m tests.benchmarks.nova_claims` starts it,
a broker and a worker. Writes the seconds of each size's claims to a file.
"""

# Chooses eventlet or native threads. Native threads are refused if anything of oslo was imported before.
import nova.tests.functional  # noqa: F401  # isort: skip

import json
import os
import sys
import time
import unittest
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from oslo_config import cfg

from nova import context
from nova.compute import claims, resource_tracker
from nova.tests.functional import integrated_helpers
from tests.nova.inside import instances
from tracker_worker.nova import hooks, worker_claims
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.mirror import MirrorResourceTracker
from tracker_worker.nova.replace import ReplaceResourceTracker
from tracker_worker.nova.tap import TapResourceTracker
from tracker_worker.rpcapi import TrackerAPI

WARM_UP = 20
NOVA = resource_tracker.ResourceTracker


def new_casts() -> CastQueue:
    settings = json.loads(os.environ["NOVA_CLAIMS"])
    api = TrackerAPI.from_conf(cfg.CONF, settings["url"], exchange=settings["exchange"])
    return CastQueue(api, lambda: str(uuid.uuid4()), time.sleep, time.monotonic, 60)


def claim_of(context: Any, instance: Any, nodename: str, tracker: Any, *args: Any, **kwargs: Any) -> Any:
    """Make the claim of this tracker's size: all four are in one process here."""
    made = worker_claims if isinstance(tracker, ReplaceResourceTracker) else claims
    return made.Claim(context, instance, nodename, tracker, *args, **kwargs)


def sizes() -> dict[str, type[Any]]:
    """Return the tracker of each size, hooked."""
    tap, mirror = type("Tap", (TapResourceTracker,), {}), type("Mirror", (MirrorResourceTracker,), {})
    for each in (tap, mirror):
        hooks.hook_tracker(each)
    hooks.hook_replacing_tracker(ReplaceResourceTracker)
    resource_tracker.claims = SimpleNamespace(Claim=claim_of)
    TapResourceTracker.new_casts = staticmethod(new_casts)
    return {"Nova alone": NOVA, "tap": tap, "mirror": mirror, "replace": ReplaceResourceTracker}


class ClaimTimes(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    compute_driver = "fake.MediumFakeDriver"

    def test_claims(self) -> None:
        settings = json.loads(os.environ["NOVA_CLAIMS"])
        manager = self.start_service("compute", host="compute1").manager
        self.context = context.get_admin_context()
        trackers = {name: self.tracker_of(each, manager) for name, each in sizes().items()}
        spent: dict[str, list[float]] = {name: [] for name in trackers}
        for number in range(WARM_UP + settings["claims"]):
            # Each round begins with another size: what follows a slow one is not always the same.
            first = number % len(trackers)
            for name, tracker in (*[*trackers.items()][first:], *[*trackers.items()][:first]):
                spent[name].append(self.claim(tracker))
        seconds = {name: each[WARM_UP:] for name, each in spent.items()}
        Path(settings["results"]).write_text(json.dumps(seconds))

    def tracker_of(self, made: type[Any], manager: Any) -> Any:
        """Return a tracker that has made its first audit."""
        tracker = made(manager.host, manager.driver, reportclient=manager.reportclient)
        tracker.set_service_ref(manager.rt.service_ref)
        tracker.update_available_resource(self.context, manager.host, startup=True)
        return tracker

    def claim(self, tracker: Any) -> float:
        """Make a claim and abort it; return how long the claim took."""
        instance = instances.an_instance(self.context)
        began = time.perf_counter()
        claim = tracker.instance_claim(self.context, instance, "compute1", {}, None)
        seconds = time.perf_counter() - began
        claim.abort()
        return seconds


if __name__ == "__main__":
    run = unittest.main(module=__name__, exit=False)
    sys.exit(not run.result.wasSuccessful())
