# SPDX-License-Identifier: Apache-2.0
"""The report on USR2: threads, processes, options and what the worker is doing, by oslo.reports."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct
from oslo_config import cfg
from oslo_reports import opts
from oslo_reports.guru_meditation_report import TextGuruMeditation
from oslo_reports.models.with_default_views import ModelWithDefaultViews

from tracker_worker.cmd.urls import without_secrets
from tracker_worker.core.error_text import error_text
from tracker_worker.worker.health import LaneState, WorkerState
from tracker_worker.worker.service import Worker


class _Package(Struct, frozen=True):
    """The package, as oslo.reports asks for it."""

    name: str

    def vendor_string(self) -> str:
        return "OpenStack"

    def product_string(self) -> str:
        return self.name

    def version_string_with_package(self) -> str:
        return version(self.name)


class WorkerReport(TextGuruMeditation):
    """A report without the secrets of URLs. oslo.reports masks the values of secret options itself."""

    def run(self) -> str:
        """Return the text."""
        return without_secrets(super().run())


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options of [oslo_reports]."""
    opts.set_defaults(conf)


def watch_file(conf: cfg.ConfigOpts, program: str) -> None:
    """Write a report when `[oslo_reports] file_event_handler` is touched, if it is set. Raises ValueError."""
    if conf.oslo_reports.file_event_handler:
        try:
            WorkerReport.setup_autorun(_Package(program), program, conf=conf, setup_signal=False)
        except OSError as error:
            raise ValueError(f"[oslo_reports] file_event_handler: {error_text(error)}") from error


def describe(worker: Worker) -> None:
    """Have reports show this worker from now on."""
    WorkerReport.register_section("Worker", lambda: ModelWithDefaultViews(worker_section(worker)))


def write_report(conf: cfg.ConfigOpts, program: str) -> None:
    """Write a report into `[oslo_reports] log_dir`, without one to standard error. Never raises."""
    WorkerReport.handle_signal(_Package(program), program, conf.oslo_reports.log_dir, None)


def worker_section(worker: Worker) -> dict[str, Any]:
    """Return what a report shows of a worker. Ages are seconds."""
    state, stats = worker.state, worker.stats
    counts = stats.lanes[0].counts
    return {
        "stopping": state.stopping,
        "lanes": {lane.name: _lane(lane) for lane in state.lanes},
        "broker": _broker(state),
        "events": {f"{method} {outcome}": n for (method, outcome), n in counts.events.items()},
        "dead letters": dict(counts.dead_letters),
        "database retries": stats.lanes[0].retries,
        "published notifications": stats.published_notifications,
        "refused notifications": stats.refused_notifications,
        "unrouted notifications": stats.unrouted_notifications,
        "lost replies": stats.lost_replies,
        "expired calls": stats.expired_calls,
    }


def _lane(lane: LaneState) -> dict[str, Any]:
    progress = lane.progress
    return {
        "doing": progress.text if progress is not None else "idle",
        "uncommitted": round(progress.uncommitted, 1) if progress is not None else 0.0,
        "in this step": round(progress.silent, 1) if progress is not None else 0.0,
        "deliveries that wait": lane.waiting,
        "since its last commit": "none yet" if lane.committed is None else round(lane.committed, 1),
    }


def _broker(state: WorkerState) -> dict[str, Any]:
    ingress = state.ingress
    oldest = None if ingress.oldest_at is None else round(state.now - ingress.oldest_at, 1)
    return {
        "connected": ingress.connected,
        "for": round(state.now - ingress.since, 1),
        "partitions": " ".join(map(str, sorted(ingress.partitions))) or "none",
        "unacknowledged": _by_queue(ingress.unacknowledged),
        "oldest unacknowledged": "none" if oldest is None else oldest,
        "ready in the queue": _by_queue(ingress.ready),
    }


def _by_queue(numbers: Mapping[int, int]) -> str:
    return msgspec.json.encode({str(queue): n for queue, n in sorted(numbers.items())}).decode()
