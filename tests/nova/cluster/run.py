# SPDX-License-Identifier: Apache-2.0
"""Runs the scenario, by the interpreter of Nova's environment: python -m tests.nova.cluster.run ORDER

ORDER is a JSON file: transport_url, exchange, partitions, timeout, servers, seed, log, results
(a file that gets a line of JSON for each thing done) and repaired (a file that is there when the servers that
were killed run again: then the last audits are made and compared).
"""

# Nova decides on eventlet or native threads before anything else is imported.
import nova.tests.functional  # noqa: F401  # isort: skip

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import testtools

from nova.conf import CONF
from tests.nova import cell_lock
from tests.nova.cluster.agreement import Agreement
from tests.nova.cluster.cloud import HOSTS, Cloud
from tests.nova.cluster.scenario import Scenario
from tests.servers.server import wait_until
from tracker_worker.nova import installation
from tracker_worker.rpcapi import TrackerAPI

Json = dict[str, Any]

SECONDS = 120


class ClusterRun(Cloud):
    """The one test: what a cloud does, and whether all agree at its end."""

    order: Json

    def test_cluster(self) -> None:
        """Tell what was done; fail only where the run itself does."""
        # Nova's fixture has replaced the handlers of the root logger.
        log = logging.FileHandler(self.order["log"])
        log.setLevel(logging.WARNING)
        log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logging.getLogger().addHandler(log)
        self.say({"event": "started"})
        began = time.monotonic()
        Scenario(self, self.order["servers"], self.order["seed"], self.say).run()
        self.say({"event": "ended", "seconds": time.monotonic() - began})
        wait_until(Path(self.order["repaired"]).exists, "the servers that were killed run again", SECONDS)
        self._compare()

    def say(self, line: Json) -> None:
        """Write a line of the results."""
        with Path(self.order["results"]).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _compare(self) -> None:
        api = connected(self.order)
        trackers: Any = installation.trackers.values()
        # One whose worker did not answer writes nothing back before a probe was answered.
        wait_until(lambda: all(tracker._answered for tracker in trackers), "the workers answer", SECONDS)
        self.audit()
        kept = self.free_kept_devices()
        if kept:
            self.audit()
        for tracker in trackers:
            assert tracker.casts.drain(SECONDS), "the last audits were not sent"
        agreement = Agreement(self, api)
        for host in HOSTS:
            agreement.check(host)
        dropped = sum(tracker.casts.dropped for tracker in trackers)
        self.say({"event": "agreement", "dropped": dropped, "kept": kept} | agreement.outcome())


def connected(order: Json) -> TrackerAPI:
    """Return a client with a connection of its own."""
    settings = {name: order[name] for name in ("exchange", "partitions", "timeout")}
    return TrackerAPI.from_conf(CONF, order["transport_url"], **settings)


def main() -> int:
    """Run it; 0 when it came to its end, whatever was found."""
    order = ClusterRun.order = json.loads(Path(sys.argv[1]).read_text())
    cell_lock.patch()
    installation.install("replace", lambda: connected(order), order["timeout"])
    result = testtools.TextTestResult(sys.stderr, failfast=True)
    result.startTestRun()
    ClusterRun("test_cluster").run(result)
    result.stopTestRun()
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
