# SPDX-License-Identifier: Apache-2.0
"""The way of a message from the wire to the decision: who calls whom, on which thread."""

import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from kombu.connection import Connection

import tracker_worker
from tests.builders import NODE, a_report, an_instance, args_of, command, method_of
from tests.functional.lanes import PARTITIONS, LaneBench
from tests.integration.rabbit import SECONDS, publish, settings_of, until
from tracker_worker.bus.rabbit.consumer import Consumer
from tracker_worker.bus.rabbit.queues import Topology, declare
from tracker_worker.bus.rabbit.subscription import SubscriptionSettings
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.core.envelope import encode
from tracker_worker.core.stats import Stats
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.domain.decide import decide
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.dispatcher import Dispatcher
from tracker_worker.worker.inbox import Inbox
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.threads import worker_thread

MOST_FUNCTIONS = 10
MOST_FILES = 6
PACKAGE = Path(tracker_worker.__file__).parent
ENDS = {Inbox.put.__code__, decide.__code__}
TOPOLOGY = Topology("tracker", PARTITIONS, quorum=False)

Hop = tuple[str, str]


def stack_of(frame: FrameType | None) -> list[Hop]:
    """The functions of the package that are being called, the outermost first, as file and name.

    The consumer's begin where py-amqp calls it with a message, the lane's where its thread begins.
    """
    hops: list[Hop] = []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if PACKAGE in path.parents:
            hops.append((str(path.relative_to(PACKAGE)), frame.f_code.co_qualname))
            if frame.f_code is Lane.run.__code__:
                break
        elif hops and "amqp" in path.parts:
            break
        frame = frame.f_back
    return hops[::-1]


@pytest.fixture
def hops() -> Iterator[dict[str, list[Hop]]]:
    """What the threads started from now on call, once a message is handed on, and once it is decided."""
    seen: dict[str, list[Hop]] = {}

    def trace(frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call" and frame.f_code in ENDS:
            seen[frame.f_code.co_qualname] = stack_of(frame)

    threading.setprofile(trace)
    yield seen
    threading.setprofile(None)


def test_message_path_has_few_functions_in_few_files(
    client: Connection, vhost_url: str, tmp_path: Path, hops: dict[str, list[Hop]]
) -> None:
    """One plain boot: a report, then the claim of an instance."""
    declare(client, TOPOLOGY)
    engine = embedded_engine(tmp_path)
    bench = LaneBench(engine)
    consumer = Consumer(
        settings_of(vhost_url),
        TOPOLOGY,
        SubscriptionSettings("one", frozenset(range(PARTITIONS)), 3600.0),
        Dispatcher([bench.lane], time.monotonic, lambda: None),
        partial(worker_thread, failed=lambda: None),
        time.monotonic,
        Stats(),
    )
    with bench.at_work():
        consumer.start()
        for each in (a_report(), command("instance_claim", instance=an_instance())):
            body = encode(method_of(each), args_of(each))
            publish(client, [body], partition=partition_of(NODE, PARTITIONS))
        until(lambda: len(bench.rows(RECEIPTS)) == 2)
        assert consumer.close(SECONDS)
    engine.dispose()
    path = hops["Inbox.put"] + hops["decide"]
    listed = "\n".join(f"{number:2} {file}: {name}" for number, (file, name) in enumerate(path, 1))
    print(listed, file=sys.stderr)
    assert len(path) <= MOST_FUNCTIONS, listed
    assert len({file for file, _ in path}) <= MOST_FILES, listed
