# SPDX-License-Identifier: Apache-2.0
"""The rules of liveness and readiness: from what a worker is doing to checks with their reasons. Pure.

Live: each thread that takes or applies events makes progress, so that a restart would not help. Ready: the
worker can apply events now. A database or a broker that cannot be reached makes a worker unready, never dead:
a restart does not bring them back, and a worker that is killed during an outage costs its events an attempt.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from tracker_worker.bus.state import IngressState
from tracker_worker.worker.activity import Progress

CONSUMER = "consumer"


class HealthSettings(Struct, frozen=True):
    """Where health and metrics are served, and the limits of the checks in seconds. No port: nowhere."""

    port: int | None = None
    host: str = "127.0.0.1"
    stall_limit: float = 120.0
    outbox_age_limit: float = 300.0


class LaneState(Struct, frozen=True):
    """A lane at one moment: `progress` is None while it is idle, `waiting` are deliveries in its inbox.

    `committed`: seconds since its last commit, None before the first. `faulty_nodes`: how many nodes need an
    operator, by code, of those that the lane has committed or holds.
    """

    name: str
    progress: Progress | None
    waiting: int
    committed: float | None
    faulty_nodes: Mapping[str, int] = {}


class WorkerState(Struct, frozen=True):
    """A worker at the moment `now` of its monotonic clock. `stopping`: it drains, and takes no more."""

    now: float
    lanes: tuple[LaneState, ...]
    ingress: IngressState
    stopping: bool = False


class DatabaseState(Struct, frozen=True):
    """What the database has last answered, at `at` of the worker's monotonic clock; None before that.

    `error` is why it does not answer, None if it does. `outbox` are the notifications that wait, counted up
    to a limit, `oldest` the time of the first of them, UTC. `unsynced` are the nodes with changes that
    Placement does not have, or whose last sync has failed; `unsynced_since` is the time of the first, UTC.
    """

    at: float | None = None
    error: str | None = None
    revision: str | None = None
    outbox: int | None = None
    oldest: datetime | None = None
    unsynced: int | None = None
    unsynced_since: datetime | None = None


class Check(Struct, frozen=True, kw_only=True):
    """One reason: the value found, its limit, and the same in words. Numbers are seconds."""

    name: str
    ok: bool
    value: float | str | None
    limit: float | str | None
    text: str


def liveness(worker: WorkerState, stall_limit: float) -> list[Check]:
    """Return whether each lane, and the consumer's thread, makes progress."""
    return [*(_moves(lane, stall_limit) for lane in worker.lanes), _reads(worker, stall_limit)]


def readiness(
    worker: WorkerState, database: DatabaseState, head: str, limits: HealthSettings, utc: datetime
) -> list[Check]:
    """Return whether the worker can apply events. `head`: the needed revision; `utc`: the time."""
    return [
        Check(
            name="running",
            ok=not worker.stopping,
            value="stopping" if worker.stopping else "running",
            limit="running",
            text="the worker drains and stops" if worker.stopping else "the worker takes events",
        ),
        *(_commits(lane, limits.stall_limit) for lane in worker.lanes),
        _consumes(worker),
        _answers(worker, database, limits.stall_limit),
        _has_schema(database, head),
        _outbox_is_young(database, limits.outbox_age_limit, utc),
    ]


def all_ok(checks: Sequence[Check]) -> bool:
    """Tell whether every check is passed."""
    return all(check.ok for check in checks)


def _moves(lane: LaneState, limit: float) -> Check:
    """A retry is progress: the database refuses to answer, and the lane is not stuck."""
    seconds = lane.progress.silent if lane.progress is not None else 0.0
    text = lane.progress.text if lane.progress is not None else "idle"
    return Check(name=lane.name, ok=seconds <= limit, value=round(seconds, 1), limit=limit, text=text)


def _commits(lane: LaneState, limit: float) -> Check:
    seconds = lane.progress.uncommitted if lane.progress is not None else 0.0
    text = "idle" if lane.progress is None else f"no commit for {seconds:.0f} s: {lane.progress.text}"
    return Check(name=lane.name, ok=seconds <= limit, value=round(seconds, 1), limit=limit, text=text)


def _reads(worker: WorkerState, limit: float) -> Check:
    seconds = 0.0 if worker.stopping else worker.now - worker.ingress.at
    ok = seconds <= limit
    doing = "connected to the broker" if worker.ingress.connected else "connecting to the broker"
    text = doing if ok else f"{doing}, and hangs there"
    return Check(name=CONSUMER, ok=ok, value=round(seconds, 1), limit=limit, text=text)


def _consumes(worker: WorkerState) -> Check:
    ingress = worker.ingress
    seconds = worker.now - ingress.since
    consumed = f"{len(ingress.partitions)} partitions are consumed, or stood by for"
    text = consumed if ingress.connected else f"not connected to the broker for {seconds:.0f} s"
    if ingress.alarm is not None:  # What waits in the queues is applied all the same.
        text += f"; the broker has an alarm and takes no messages: {ingress.alarm}"
    return Check(
        name=CONSUMER,
        ok=ingress.connected and bool(ingress.partitions),
        value="connected" if ingress.connected else "disconnected",
        limit="connected",
        text=text,
    )


def _answers(worker: WorkerState, database: DatabaseState, limit: float) -> Check:
    seconds = None if database.at is None else worker.now - database.at
    ok = database.error is None and seconds is not None and seconds <= limit
    text = "it answers"
    if seconds is None:
        text = "it has not answered yet"
    elif not ok:
        text = f"no answer for {seconds:.0f} s"
    if database.error is not None:
        text = f"{text}: {database.error}"
    shown = None if seconds is None else round(seconds, 1)
    return Check(name="database", ok=ok, value=shown, limit=limit, text=text)


def _has_schema(database: DatabaseState, head: str) -> Check:
    found = database.revision
    return Check(
        name="schema",
        ok=found == head,
        value=found,
        limit=head,
        text=f"the schema is {found or 'not known yet'}, this version needs {head}",
    )


def _outbox_is_young(database: DatabaseState, limit: float, utc: datetime) -> Check:
    age = outbox_age(database, utc)
    waiting = f"{database.outbox or 0} notifications wait"
    text = waiting if age is None else f"{waiting}, the first one since {age:.0f} s"
    shown = None if age is None else round(age, 1)
    return Check(name="outbox", ok=age is None or age <= limit, value=shown, limit=limit, text=text)


def outbox_age(database: DatabaseState, utc: datetime) -> float | None:
    """Return the seconds since the commit of the first notification that waits; None if none does.

    The clocks of hosts differ a little: an age is never negative.
    """
    return None if database.oldest is None else max((utc - database.oldest).total_seconds(), 0.0)
