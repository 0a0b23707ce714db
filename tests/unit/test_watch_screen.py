# SPDX-License-Identifier: Apache-2.0
"""The screen in the documentation is what tracker-worker-watch shows of two traces, to the last character.

Clock and ids are fixed. `python -m tests.unit.test_watch_screen` writes the screen anew.
"""

# oslo.service binds its threading model when oslo.messaging is first imported; the commands choose it.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import io
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console

from tests.unit.test_notification_samples import NOW, PARTITIONS, FixedDelivery, fixed_ids
from tracker_worker.cmd.replay import settings_of
from tracker_worker.cmd.replay.trace import read_trace
from tracker_worker.cmd.watch.picture import Picture
from tracker_worker.cmd.watch.screen import Size, Status, render
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import decode_event
from tracker_worker.core.envelope import encode, seal
from tracker_worker.core.received_notification import read_notification
from tracker_worker.domain.node import Node
from tracker_worker.domain.partitions import partition_of
from tracker_worker.domain.settings import TrackerSettings

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT / "tracker_worker" / "traces"
SCREEN = ROOT / "doc" / "source" / "admin" / "watch-screen.txt"
NAMES = ("nova-tracker-cpu-29-stale-migrations", "nova-tracker-cpu-seed0004-cpu-mixed-2h")
COLUMNS, LINES = 96, 24
LOST = 200
"""The number of a notification that does not arrive, to show a gap."""


def context_at(now: datetime, settings: TrackerSettings, new_id: Callable[[], str]) -> BatchContext:
    return BatchContext(settings, PARTITIONS, "tracker-worker:host-1", True, lambda: now, new_id)


def replayed(path: Path, new_id: Callable[[], str]) -> Iterator[bytes]:
    """Apply the commands of a trace, one in a second; yield the notifications as they are published."""
    trace = read_trace(path)
    settings = settings_of(trace)
    nodes: dict[str, Node] = {}
    for number, step in enumerate(trace.steps):
        name = step.args["node"]
        delivery = FixedDelivery(encode(step.method, step.args, unique_id=new_id()))
        delivery.partition = partition_of(name, PARTITIONS)
        context = context_at(NOW + timedelta(seconds=number), settings, new_id)
        batch = Batch(Snapshot({}, {name: nodes.get(name, Node(name))}, {}), context)
        batch.apply(decode_event(delivery, PARTITIONS))
        transaction = batch.transaction()
        nodes |= {change.after.name: change.after for change in transaction.nodes}
        yield from (seal(row.body.decode()) for row in transaction.notifications)


def screen() -> str:
    """The screen after the traces."""
    picture = Picture(Selection())
    new_id = fixed_ids()
    bodies = [body for name in NAMES for body in replayed(TRACES / f"{name}.jsonl.gz", new_id)]
    for number, body in enumerate(bodies):
        notification = read_notification(body)
        assert notification is not None
        if number != LOST:
            picture.apply(notification, number / 10)
    console = Console(file=io.StringIO(), width=COLUMNS, color_system=None)
    status = Status("RabbitMQ rabbit1:5672 (virtual host /): connected")
    console.print(render(picture, status, Size(COLUMNS, LINES), len(bodies) / 10))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_documented_screen_is_current() -> None:
    assert SCREEN.read_text() == screen()


def test_documented_screen_shows_nodes_events_and_a_gap() -> None:
    text = SCREEN.read_text()
    assert all(word in text for word in ("vcpus", "refused", "corrected", "gaps 1"))


if __name__ == "__main__":
    SCREEN.write_text(screen())
