# SPDX-License-Identifier: Apache-2.0
"""Log lines as oslo.log writes them: the context of an event, one line for each claim and correction, and
never the error that oslo.log would add because it is being handled.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_log import log
from oslo_log.formatters import ContextFormatter, JSONFormatter

from tests.builders import (
    INSTANCE,
    NODE,
    a_flavor,
    a_report,
    an_instance,
    args_of,
    command,
    method_of,
    some_resources,
)
from tests.functional.lanes import LaneBench
from tests.functional.statements import Fault, out_of_range
from tracker_worker.conf import opts
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Instance, Limits

REQUEST = "req-8f0a1c52-7d0e-4a51-9a0b-1f6c4f3b8d21"


@contextmanager
def logged(formatter: logging.Formatter, level: int = logging.INFO) -> Iterator[io.StringIO]:
    """Yield what the worker's log file would have."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    logger = logging.getLogger("tracker_worker")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    yield written
    logger.setLevel(before)
    logger.removeHandler(handler)


@pytest.fixture
def formatter() -> logging.Formatter:
    """oslo.log's formatter with the worker's defaults."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    opts.set_defaults()
    conf([])
    return ContextFormatter(config=conf)


@pytest.fixture
def log_lines(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    """What the worker's log file would have."""
    with logged(formatter) as written:
        yield written


def boot() -> AnyCommand:
    return command("instance_claim", instance=an_instance())


def test_error_of_the_database_for_which_an_event_is_parked_is_logged_once(
    bench: LaneBench, log_lines: io.StringIO
) -> None:
    bench.track()
    bench.deliver(boot(), "one")
    with Fault(bench.engine, "INSERT INTO claims", out_of_range, times=10):
        bench.run()
    lines = log_lines.getvalue().splitlines()
    (line,) = [line for line in lines if "value out of range" in line]
    assert f"The database refuses event one of node {NODE}: DBError: value out of range" in line
    assert any("Event one" in line and "is parked as dead letter" in line for line in lines)


def test_held_node_is_logged_without_the_error_that_oslo_log_would_add(
    a_bench: Callable[..., LaneBench], log_lines: io.StringIO
) -> None:
    first = a_bench()
    first.track()
    first.send(boot())
    with first.engine.begin() as connection:
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.instance_uuid == INSTANCE))
    other = a_bench()
    other.deliver(boot(), "again")
    other.run()
    (line,) = [line for line in log_lines.getvalue().splitlines() if "and its events are held" in line]
    assert NODE in line
    assert "NodesBroken" not in line, line


def send(bench: LaneBench, sent: AnyCommand) -> None:
    """Have a command applied that comes with a request id."""
    body = encode(method_of(sent), args_of(sent), unique_id="event-1", request_id=REQUEST)
    bench.deliver_body(body, sent.node)
    bench.run()


def report_of(instances: list[Instance] | None = None, **more: Any) -> AnyCommand:
    """A report of the bench's node."""
    return a_report(instances, resources=some_resources(uuid=f"uuid-of-{NODE}", **more))


LARGE = an_instance(flavor=a_flavor(memory_mb=99999))
CONFLICT = a_report()
"""Of the node's name with another uuid."""
REFUSAL = "Free memory 15872.00 MB < requested 99999 MB"
LINES = [
    pytest.param(
        boot(),
        f"INFO tracker_worker.worker.event_log [{REQUEST}] Node {NODE} granted instance_claim of instance "
        f"{INSTANCE}: 2 vcpus, 2048 MB of memory and 20480 MB of disk",
        id="granted",
    ),
    pytest.param(
        command("instance_claim", instance=LARGE, limits=Limits(memory_mb=16384)),
        f"INFO tracker_worker.worker.event_log [{REQUEST}] Node {NODE} refused instance_claim of instance "
        f"{INSTANCE}: {REFUSAL}",
        id="refused",
    ),
    pytest.param(
        report_of([an_instance()]),
        f"INFO tracker_worker.worker.event_log [{REQUEST}] Node {NODE} corrected, instance_here: claim of "
        f"instance {INSTANCE} added, from none to instance of 2 vcpus, 2048 MB of memory and 20480 MB of",
        id="corrected",
    ),
    pytest.param(
        command("remove_node"),
        f"INFO tracker_worker.worker.event_log [{REQUEST}] Node {NODE} of host host-of-{NODE} is removed",
        id="removed",
    ),
    pytest.param(
        CONFLICT,
        f"WARNING tracker_worker.worker.event_log [{REQUEST}] Report of node {NODE}: host host-1 reports",
        id="conflict",
    ),
    pytest.param(
        report_of(memory_mb=100),
        f"WARNING tracker_worker.worker.event_log [{REQUEST}] Report of node {NODE}: the reserve exceeds the",
        id="excessive reserve",
    ),
]


@pytest.mark.parametrize(("sent", "line"), LINES)
def test_event_worth_a_line_has_one_with_its_request_and_its_node(
    bench: LaneBench, log_lines: io.StringIO, sent: AnyCommand, line: str
) -> None:
    bench.track()
    send(bench, sent)
    (written,) = log_lines.getvalue().splitlines()
    assert line in written


@pytest.mark.parametrize(
    "sent",
    [
        report_of(vcpus=9),
        report_of([]),
        command("update_usage", instance=an_instance(task_state="rebooting")),
        command("abort_instance_claim", instance_uuid=INSTANCE),
        command("build_failed"),
    ],
    ids=["report", "audit without corrections", "states", "abort", "counter"],
)
def test_other_event_has_no_line(bench: LaneBench, log_lines: io.StringIO, sent: AnyCommand) -> None:
    bench.track()
    send(bench, sent)
    assert log_lines.getvalue() == ""


def test_repeated_event_has_no_second_line(bench: LaneBench, log_lines: io.StringIO) -> None:
    bench.track()
    send(bench, boot())
    send(bench, boot())
    assert len(log_lines.getvalue().splitlines()) == 1


def test_parked_event_has_its_request_and_its_node(bench: LaneBench, log_lines: io.StringIO) -> None:
    bench.track()
    bench.deliver_body(encode("build_failed", {"node": NODE, "x": 1}, request_id=REQUEST))
    bench.run()
    (line,) = log_lines.getvalue().splitlines()
    assert f"[{REQUEST}] Event" in line and f"of node {NODE} is parked" in line


def test_warning_is_the_least_that_is_logged_above_info(
    bench: LaneBench, formatter: logging.Formatter
) -> None:
    bench.track()
    with logged(formatter, logging.WARNING) as written:
        send(bench, boot())
        assert written.getvalue() == ""
        bench.send(CONFLICT)
        assert "WARNING" in written.getvalue()


def test_debug_has_one_line_for_each_settled_event(bench: LaneBench, formatter: logging.Formatter) -> None:
    """Found by a newcomer: DEBUG had lines of the libraries, and none of an event."""
    bench.track()
    with logged(formatter, logging.DEBUG) as written:
        send(bench, boot())
        send(bench, boot())
        send(bench, command("abort_instance_claim", instance_uuid="another"))
        bench.send(command("instance_claim", instance=LARGE, limits=Limits(memory_mb=16384)), "event-2")
        bench.deliver_body(encode("get_node", {"node": NODE}, unique_id="event-3"))
        bench.deliver_body(encode("build_failed", {"node": NODE, "x": 1}, unique_id="event-4"))
        bench.run()
    lines = [line.partition(" DEBUG ")[2] for line in written.getvalue().splitlines() if " DEBUG " in line]
    texts = [line.partition("] ")[2].partition(" log_settled ")[0] for line in lines]
    assert texts == [
        f"Event event-1 (instance_claim) of node {NODE}: granted",
        f"Event event-1 (instance_claim) of node {NODE}: duplicate",
        f"Event event-1 (abort_instance_claim) of node {NODE}: parked, event_id_reused",
        f"Event event-2 (instance_claim) of node {NODE}: refused, {REFUSAL}",
        f"Event event-3 (get_node) of node {NODE}: answered",
        f"Event event-4 (build_failed) of node {NODE}: parked, unknown_argument",
    ]
    assert lines[0].startswith(f"tracker_worker.worker.event_log [{REQUEST}] ")


def test_line_in_json_has_the_context_of_its_event(bench: LaneBench) -> None:
    bench.track()
    with logged(JSONFormatter()) as written:
        send(bench, boot())
    assert json.loads(written.getvalue())["context"] == {
        "request_id": REQUEST,
        "event_id": "event-1",
        "method": "instance_claim",
        "node": NODE,
        "instance_uuid": INSTANCE,
    }
