# SPDX-License-Identifier: Apache-2.0
"""The report on USR2: threads, processes, options and what the worker is doing, by oslo.reports."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct
from oslo_config import cfg
from oslo_reports import opts
from oslo_reports.guru_meditation_report import TextGuruMeditation
from oslo_reports.models.with_default_views import ModelWithDefaultViews

from tracker_worker.bus.rabbit.queues import queue_name
from tracker_worker.cmd.urls import without_secrets
from tracker_worker.core.stats import Stats
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
    if file := conf.oslo_reports.file_event_handler:
        try:
            WorkerReport.setup_autorun(_Package(program), program, conf=conf, setup_signal=False)
        except OSError as error:
            raise ValueError(
                f"[oslo_reports] file_event_handler = {file}: {error.strerror}; create it: a change of it "
                "triggers a report"
            ) from error


def describe(worker: Worker, exchange: str) -> None:
    """Have reports show this worker, and its queues of an exchange, from now on."""
    WorkerReport.register_section(
        "Worker", lambda: ModelWithDefaultViews(worker_section(worker.state, worker.stats, exchange))
    )


def write_report(conf: cfg.ConfigOpts, program: str) -> None:
    """Write a report into `[oslo_reports] log_dir`, without one to standard error. Never raises."""
    WorkerReport.handle_signal(_Package(program), program, conf.oslo_reports.log_dir, None)


def worker_section(state: WorkerState, stats: Stats, exchange: str) -> dict[str, Any]:
    """Return what a report shows of a worker. Figures have the names and units of the metrics."""
    counts = stats.lanes[0].counts
    return {
        "stopping": state.stopping,
        "lanes": {lane.name: _lane(lane) for lane in state.lanes},
        "broker": _broker(state, exchange),
        "events_total": {f"{method} {outcome}": n for (method, outcome), n in counts.events.items()},
        "dead_letters_total": dict(counts.dead_letters),
        "database_retries_total": stats.lanes[0].retries,
        "published_notifications_total": stats.published_notifications,
        "refused_notifications_total": stats.refused_notifications,
        "unrouted_notifications_total": stats.unrouted_notifications,
        "unanswered_calls_total": {"expired": stats.expired_calls, "lost_reply": stats.lost_replies},
    }


def _lane(lane: LaneState) -> dict[str, Any]:
    progress = lane.progress
    return {
        "doing": progress.text if progress is not None else "idle",
        "uncommitted_seconds": round(progress.uncommitted, 1) if progress is not None else 0.0,
        "step_seconds": round(progress.silent, 1) if progress is not None else 0.0,
        "waiting_messages": lane.waiting,
        "last_commit_seconds": "none yet" if lane.committed is None else round(lane.committed, 1),
    }


def _broker(state: WorkerState, exchange: str) -> dict[str, Any]:
    ingress = state.ingress
    oldest_at = state.now if ingress.oldest_at is None else ingress.oldest_at
    return {
        "connected": ingress.connected,
        ("connected_seconds" if ingress.connected else "disconnected_seconds"): round(
            state.now - ingress.since, 1
        ),
        "alarm": ingress.alarm or "none",
        "partitions": _numbers(ingress.partitions),
        "active_partitions": _numbers(ingress.active),
        "unacknowledged_messages": _by_queue(ingress.unacknowledged, exchange),
        "oldest_unacknowledged_seconds": round(state.now - oldest_at, 1),
        "ready_messages": _by_queue(ingress.ready, exchange),
    }


def _numbers(partitions: Iterable[int]) -> str:
    return " ".join(map(str, sorted(partitions))) or "none"


def _by_queue(numbers: Mapping[int, int], exchange: str) -> str:
    named = {queue_name(exchange, number): numbers[number] for number in sorted(numbers)}
    return msgspec.json.encode(named).decode()
