# SPDX-License-Identifier: Apache-2.0
"""Serves /livez, /readyz and /metrics of one worker on one port."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace
from prometheus_client import make_wsgi_app

from tracker_worker.core.stats import Stats
from tracker_worker.db import revisions
from tracker_worker.worker.database_probe import DatabaseProbe
from tracker_worker.worker.health import (
    Check,
    DatabaseState,
    HealthSettings,
    WorkerState,
    all_ok,
    liveness,
    readiness,
)
from tracker_worker.worker.http import HttpServer
from tracker_worker.worker.metrics import Scrape, registry_of
from tracker_worker.worker.threads import worker_thread

OK, UNAVAILABLE = "200 OK", "503 Service Unavailable"


class Observed(Protocol):
    """A worker, as its monitor sees it. Any thread may read both."""

    @property
    def stats(self) -> Stats:
        """A snapshot of its counters."""
        ...

    @property
    def state(self) -> WorkerState:
        """What it is doing."""
        ...


class Health:
    """The checks of one worker. Any thread. `clock` is UTC without a zone."""

    def __init__(
        self,
        worker: Observed,
        settings: HealthSettings,
        database: Callable[[], DatabaseState],
        clock: Callable[[], datetime],
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._database = database
        self._clock = clock
        self._head = revisions.head()

    def liveness(self) -> list[Check]:
        """Return the checks of /livez."""
        return liveness(self._worker.state, self._settings.stall_limit)

    def readiness(self) -> list[Check]:
        """Return the checks of /readyz."""
        return readiness(self._worker.state, self._database(), self._head, self._settings, self._clock())

    def scrape(self) -> Scrape:
        """Return what /metrics shows."""
        return Scrape(
            stats=self._worker.stats,
            worker=self._worker.state,
            database=self._database(),
            live=all_ok(self.liveness()),
            ready=all_ok(self.readiness()),
            utc=self._clock(),
        )


class Monitor:
    """Owns two threads, of the HTTP server and of the database probe, and the server's short ones.

    Listens once it is made. Raises OSError if it cannot. `failed` is called on a thread that an unhandled
    exception ends. `redact` removes secrets from texts: those of drivers are shown. `monotonic` is a clock in
    seconds that is never set back, `clock` UTC without a zone.
    """

    def __init__(
        self,
        worker: Observed,
        engine: sa.Engine,
        settings: HealthSettings,
        port: int,
        redact: Callable[[str], str],
        monotonic: Callable[[], float],
        clock: Callable[[], datetime],
        failed: Callable[[], None],
    ) -> None:
        self._redact = redact
        self._probe = DatabaseProbe(engine, monotonic, failed)
        self._health = Health(worker, settings, lambda: self._probe.state, clock)
        self._metrics = make_wsgi_app(registry_of(self._health.scrape))
        self._server = HttpServer(settings.host, port, self._answer, monotonic)
        self._thread = worker_thread("http", self._server.serve, failed)

    def start(self) -> None:
        """Start the threads."""
        self._probe.start()
        self._thread.start()

    def stop(self) -> None:
        """Serve no more. Not from one of its threads."""
        self._server.stop()
        self._probe.stop()

    def _answer(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _respond(start_response, "405 Method Not Allowed", {"error": "only GET is allowed"})
        match path:
            case "/metrics":
                found: Iterable[bytes] = self._metrics(environ, start_response)
                return found
            case "/livez":
                return self._respond_checks(start_response, self._health.liveness())
            case "/readyz":
                return self._respond_checks(start_response, self._health.readiness())
            case _:
                text = "there is /livez, /readyz and /metrics"
                return _respond(start_response, "404 Not Found", {"error": text})

    def _respond_checks(self, start_response: Callable[..., Any], checks: Sequence[Check]) -> Iterable[bytes]:
        shown = [replace(check, text=self._redact(check.text)) for check in checks]
        ok = all_ok(checks)
        return _respond(start_response, OK if ok else UNAVAILABLE, {"ok": ok, "checks": shown})


def _respond(start_response: Callable[..., Any], status: str, document: Any) -> Iterable[bytes]:
    body = msgspec.json.format(msgspec.json.encode(document)) + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, [*headers, ("Cache-Control", "no-store")])
    return [body]
