# SPDX-License-Identifier: Apache-2.0
"""The screens of doc/source/admin/full-nodes.rst: what the commands print of a replayed trace.

The trace is applied by a lane, event by event. Only the times of its events are set afterwards.
"""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from shlex import join
from uuid import NAMESPACE_OID, uuid5

from oslo_config import cfg

import tracker_worker
from tests.functional.lanes import LaneBench
from tests.functional.manage import logging_restored
from tracker_worker.cmd import manage
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.cmd.replay import settings_of
from tracker_worker.cmd.replay.trace import read_trace
from tracker_worker.core.envelope import encode

ROOT = Path(tracker_worker.__file__).parents[1]
SCREENS = ROOT / "doc" / "source" / "admin" / "screens"
TRACE = ROOT / "tracker_worker" / "traces" / "nova-tracker-all-seed0003-all-serial-1h.jsonl.gz"
START = datetime(2026, 11, 29, 9)
MOVED = "542aaf09-fcef-4f2a-b0ea-bfed43d27ba0"
PINNED = '{"vcpus": 6, "memory_mb": 24576, "root_gb": 20, "extra_specs": {"hw:cpu_policy": "dedicated"}}'
COMMANDS = {
    "explain": ("node", "explain", "n1"),
    "refused": ("node", "history", "n1", "--outcome", "refused", "--limit", "3"),
    "history": ("node", "history", "n1", "--instance", MOVED, "--limit", "5"),
    "at": ("node", "history", "n1", "--at", "2026-11-29T09:57"),
    "diff": ("node", "history", "n1", "--diff", "2026-11-29T09:57", "2026-11-29T10:10"),
    "fit": ("node", "fit", "n1", "--flavor", PINNED, "--limits", '{"memory_mb": 32768, "vcpu": 256}'),
    "instance": ("instance", "show", "95eb0428-2584-443f-b2fd-7325c08680b8", "--limit", "3"),
    "device": ("device", "show", "0000:81:10.2"),
    "verify": ("node", "verify", "--all"),
}


def screens(directory: Path) -> Iterator[tuple[str, str]]:
    """Replay the trace into a database in an empty directory; yield each screen with its name."""
    engine = embedded_engine(directory)
    trace = read_trace(TRACE)
    bench = LaneBench(engine, tracker=settings_of(trace))
    for number, step in enumerate(trace.steps):
        event_id = f"event-{number}"
        request_id = f"req-{uuid5(NAMESPACE_OID, event_id)}"
        args = {**step.args, "event_id": event_id}
        bench.deliver_body(encode(step.method, args, request_id=request_id), step.args["node"])
        bench.run()
        bench.date(START + timedelta(seconds=30 * number), event_id)
    bench.close()
    engine.dispose()
    file = directory / "screens.conf"
    file.write_text(f"[DEFAULT]\nstate_path = {directory}\ntransport_url = fake://\n")
    for name, command in COMMANDS.items():
        yield name, screen(file, command)


def screen(file: Path, command: tuple[str, ...]) -> str:
    """What a command prints, after its command line."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown), logging_restored():
        manage.run(cfg.ConfigOpts(), ["--config-file", str(file), *command])
    return f"$ tracker-worker-manage {join(command)}\n{shown.getvalue().rstrip()}\n"
