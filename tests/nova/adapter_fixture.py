# SPDX-License-Identifier: Apache-2.0
"""What a test of Nova gets: the adapter in its nova-computes, a worker, and a line of JSON at its end.

Imported in the processes of Nova's tests after nova.test: Nova has chosen eventlet or native threads by then.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import fixtures
from oslo_config import cfg

from nova.compute import manager, resource_tracker
from nova.context import get_admin_context
from tests.nova import recorded
from tests.nova.selection import PREFIX
from tests.nova.workers import DaemonWorker, InProcessWorker
from tracker_worker.exceptions import NodeNotFound
from tracker_worker.nova import devices, installation
from tracker_worker.nova.options import TAP
from tracker_worker.rpcapi import TrackerAPI

SECONDS = 30

Json = dict[str, Any]


class Worker(Protocol):
    """The worker of a test."""

    def connect(self) -> TrackerAPI: ...

    def drain(self, seconds: float) -> None:
        """Wait until it has processed all casts; TimeoutError otherwise."""

    def take_dead_letters(self) -> list[Json]:
        """Return the dead letters that came since the last time."""

    def clean(self, nodes: list[str]) -> None:
        """Let the next test find none of these nodes."""


class AdapterFixture(fixtures.Fixture):
    """Serves the trackers that Nova makes during a test, and writes what they did at its end.

    A dead letter, or a cast that was not sent, is in that line and does not fail the test.
    """

    def __init__(self, test: str, results: Path, daemons: str | None) -> None:
        super().__init__()
        self._test = test
        self._results = results
        self._daemons = daemons
        self._line: Json = {"test": test}
        self._commands: list[Json] = []
        self._milliseconds = 0.0
        self.trackers: list[Any] = []
        self.stopped: list[Any] = []

    def connect(self) -> TrackerAPI:
        """Return a client of its own for a tracker: each nova-compute is a source of events."""
        api = self._worker.connect()
        _record(api, self._commands)
        return api

    def end(self) -> None:
        """Let the nova-computes that run audit their nodes, and keep what was cast since the test's start.

        The traces that were recorded in these tests end so. What the test's cleanup casts is not in them.
        """
        self._drain()  # An audit that waits would be superseded.
        context = get_admin_context()
        running = [tracker for tracker in self.trackers if tracker not in self.stopped]
        for tracker in {tracker.host: tracker for tracker in running}.values():
            for node in list(tracker.compute_nodes):
                tracker.update_available_resource(context, node)
        self._drain()
        self._line["commands"] = list(self._commands)

    def _setUp(self) -> None:
        began = time.perf_counter()
        self.addCleanup(self._write)
        self._worker: Worker = self.useFixture(
            DaemonWorker(cfg.CONF, Path(self._daemons)) if self._daemons else InProcessWorker(cfg.CONF)
        )
        self.addCleanup(self._collect)
        self._milliseconds = (time.perf_counter() - began) * 1000

    def _collect(self) -> None:
        self._ended = time.perf_counter()
        self._line |= {
            "drained": self._drain(),
            "casts": sum(tracker.casts.sent for tracker in self._with_casts()),
            "dropped": sum(tracker.casts.dropped for tracker in self._with_casts()),
            "audits_compared": sum(getattr(each, "audits_compared", 0) for each in self.trackers),
            "differences": [*self._differences(), *self._devices_apart()],
            "dead_letters": self._worker.take_dead_letters(),
        }
        self._worker.clean([node for tracker in self.trackers for node in tracker.compute_nodes])

    def _differences(self) -> list[str]:
        return [line for each in self.trackers for line in getattr(each, "differences", ())]

    def _devices_apart(self) -> list[str]:
        """Return where the devices of Nova and of the worker differ: when all is cast, they are the same.

        Unit tests have mocks in place of Nova's devices.
        """
        if not self._test.startswith(PREFIX):
            return []
        newest = {each.host: each for each in self._with_casts()}
        ends = [(each, node) for each in newest.values() if (node := each.pci_node()) is not None]
        apart = []
        for tracker, node in ends:
            try:
                view = self._worker.connect().get_node({}, node)
            except NodeNotFound:  # Removed, or never audited.
                continue
            known = tracker.pci_tracker.pci_devs
            apart += [f"{node} has taken {each}" for each in devices.taken(view, known)]
            apart += [f"{node} has freed {each}" for each in devices.freed(view, known)]
        return apart

    def _drain(self) -> bool:
        """Wait until the worker has processed all that the trackers queued; tell whether it has."""
        deadline = time.monotonic() + SECONDS
        drained = [each.casts.drain(max(deadline - time.monotonic(), 0)) for each in self._with_casts()]
        try:
            self._worker.drain(SECONDS)
        except TimeoutError:
            return False
        return all(drained)

    def _with_casts(self) -> list[Any]:
        return [tracker for tracker in self.trackers if hasattr(tracker, "casts")]

    def _write(self) -> None:
        """Write the line, last of all: with what the fixture cost."""
        self._milliseconds += (time.perf_counter() - self._ended) * 1000
        self._line["fixture_ms"] = round(self._milliseconds)
        with self._results.open("ab", buffering=0) as file:  # One write a line: other processes write, too.
            file.write(json.dumps(self._line).encode() + b"\n")


def _record(api: TrackerAPI, commands: list[Json]) -> None:
    """Append what is cast to a list, in a form that later changes of the arguments do not reach."""
    cast = api.cast

    def record_and_cast(context: Any, method: str, node: str, **args: Any) -> None:
        commands.append(json.loads(json.dumps({"method": method, "args": {"node": node, **args}})))
        cast(context, method, node, **args)

    api.cast = record_and_cast  # type: ignore[method-assign]


_current: list[AdapterFixture] = []
"""The fixture of the test that runs, or ran last."""


def patch(test_case: type) -> None:
    """Install the adapter in this process, and give each test of the class an AdapterFixture.

    The fixture comes after Nova's own and before what the test starts: at the test's end its services have
    stopped, and the database and the RPC of Nova are still there, when the fixture looks.
    """
    results = Path(os.environ["TRACKER_WORKER_NOVA_RESULTS"])
    daemons = os.environ.get("TRACKER_WORKER_NOVA_DAEMONS")
    mode = os.environ["TRACKER_WORKER_NOVA_MODE"]
    installation.install(mode, lambda: _current[-1].connect())
    _remember_trackers(resource_tracker.ResourceTracker)
    _remember_stops(manager.ComputeManager)
    set_up = test_case.setUp  # type: ignore[attr-defined]

    def set_up_with_adapter(self: Any) -> None:
        set_up(self)
        _current[:] = [AdapterFixture(self.id(), results, daemons)]
        self.useFixture(_current[-1])
        if mode == TAP and recorded.has_trace(self.id()):
            _after_test(self, _current[-1].end)

    test_case.setUp = set_up_with_adapter  # type: ignore[attr-defined]


def _after_test(test: Any, end: Callable[[], None]) -> None:
    """Call a function when the test has passed, before anything is cleaned up."""
    name = test._testMethodName
    run = getattr(test, name)

    def run_and_end() -> None:
        run()
        end()

    setattr(test, name, run_and_end)


def _remember_trackers(tracker: Any) -> None:
    """A test restarts nova-computes: their old trackers have casts and differences, too."""
    make = tracker.__init__

    def make_and_remember(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        _current[-1].trackers.append(self)

    tracker.__init__ = make_and_remember


def _remember_stops(compute_manager: Any) -> None:
    clean_up = compute_manager.cleanup_host

    def clean_up_and_remember(self: Any) -> None:
        clean_up(self)
        _current[-1].stopped.append(self.rt)

    compute_manager.cleanup_host = clean_up_and_remember
