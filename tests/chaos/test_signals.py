# SPDX-License-Identifier: Apache-2.0
"""A worker gets SIGTERM, SIGHUP or SIGSTOP under load."""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.conftest import Size
from tests.chaos.databases import KINDS, Database, database_of
from tests.chaos.queues import IMPATIENT, NOTICES, consumers, ready
from tests.chaos.trial import BURST, Trial, put_to_work
from tests.servers.proxy import Proxy

SEED = 1
ENDS = 5.0
"""Seconds within which a worker under load ends after SIGTERM."""
LOGGING = """
[loggers]
keys = root
[handlers]
keys = stderr
[formatters]
keys = marked
[logger_root]
level = INFO
handlers = stderr
[handler_stderr]
class = StreamHandler
args = (sys.stderr,)
formatter = marked
[formatter_marked]
format = {mark} %(message)s
"""


def are_ready(url: str, count: int) -> bool:
    """Whether so many commands wait for a worker."""
    return ready(url) == count


@pytest.mark.timeout(900)
def test_a_worker_that_is_told_to_end_leaves_nothing_settled_behind_unacknowledged(
    vhost_url: str, database_url: str, size: Size, report: Callable[..., None]
) -> None:
    times, burst = size(2, 20), 2_000
    chance = random.Random(SEED)
    at_work = 0
    few = {"worker": {"prefetch": 4}}
    with Trial(vhost_url, database_url, casts=burst * (times + 1), options=few) as trial:
        trial.stop_worker()
        for number in range(1, times + 1):
            left = ready(vhost_url)
            trial.cast_until(burst * number)
            trial.wait_for(partial(are_ready, vhost_url, left + burst), "everything in the queues")
            before = trial.settled()
            trial.start_worker()
            trial.wait_settled(before + chance.randint(1, burst // 8))
            asked = time.monotonic()
            trial.stop_worker()
            assert time.monotonic() - asked <= ENDS
            unsettled = trial.unsettled()
            at_work += unsettled > 0
            # Settled messages without an acknowledgement would be counted too, and stay.
            trial.wait_for(partial(are_ready, vhost_url, unsettled), f"{unsettled} left", 10)
        trial.start_worker()
        row = trial.finish("TERM", times)
    report(row)
    assert at_work == times


def has_said(trial: Trial, text: str) -> bool:
    """Whether a worker has logged something."""
    return text in trial.log


@pytest.mark.timeout(600)
def test_a_worker_reads_its_options_again_at_work(
    vhost_url: str, database_url: str, size: Size, report: Callable[..., None], tmp_path: Path
) -> None:
    times = size(3, 20)
    chance = random.Random(SEED)
    at_work = 0
    with Trial(vhost_url, database_url, casts=BURST * (times + 1)) as trial:
        file = trial.processes.directory / "worker-0.conf"
        first = file.read_text()
        for number in range(1, times + 1):
            mark = f"options-{number}"
            (tmp_path / mark).write_text(LOGGING.format(mark=mark))
            file.write_text(first.replace("[DEFAULT]", f"[DEFAULT]\nlog_config_append = {tmp_path / mark}"))
            put_to_work(chance, BURST * number, trial)
            trial.worker.send_signal(signal.SIGHUP)
            trial.wait_for(partial(has_said, trial, f"{mark} Options changed"), "a new option in effect", 5)
            at_work += trial.unsettled() > 0
        row = trial.finish("HUP", times)
    report(row)
    assert at_work > times / 2


def stand_still(trial: Trial, seconds: float) -> None:
    """SIGSTOP the worker until the broker has dropped it, and for at least so long."""
    worker = trial.worker
    worker.send_signal(signal.SIGSTOP)
    until = time.monotonic() + seconds
    assert trial.unsettled(), "it had nothing to do"
    trial.wait_for(lambda: not consumers(trial.broker.url), "the broker gives it up", NOTICES)
    threading.Event().wait(max(until - time.monotonic(), 0))
    worker.send_signal(signal.SIGCONT)
    trial.wait_settled(trial.allowed)


@pytest.mark.timeout(900)
def test_a_worker_that_stood_still_for_longer_than_the_heartbeat_comes_back(
    vhost_url: str, database_url: str, size: Size, report: Callable[..., None]
) -> None:
    times = size(1, 5)
    chance = random.Random(SEED)
    with Trial(vhost_url, database_url, casts=BURST * (times + 1), options=IMPATIENT) as trial:
        for number in range(1, times + 1):
            put_to_work(chance, BURST * number, trial)
            stand_still(trial, size(0, 60))
        row = trial.finish("SIGSTOP for 60 s" if size(False, True) else "SIGSTOP", times)
    report(row)


def stop_in_a_transaction(trial: Trial, database: Database) -> None:
    """SIGSTOP the first worker between two statements of a transaction that has locked nodes."""
    worker = trial.workers[0]

    def stopped() -> bool:
        worker.send_signal(signal.SIGSTOP)
        # A running statement ends first, and MariaDB's view of transactions is 0.1 s old.
        threading.Event().wait(0.12)
        if database.a_transaction_stands_still():
            return True
        worker.send_signal(signal.SIGCONT)
        return False

    trial.wait_for(stopped, "a worker in a transaction")


def wake(trial: Trial, worker: "subprocess.Popen[bytes]") -> None:
    """SIGCONT a worker that was stopped in a transaction; its commit must fail."""

    def failures() -> int:
        return trial.log_of(worker).count("Transaction is tried again")

    before = failures()
    worker.send_signal(signal.SIGCONT)
    trial.wait_for(lambda: failures() > before, "its commit fails")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_stands_still_in_a_transaction_is_replaced_and_cannot_commit(
    vhost_url: str,
    request: pytest.FixtureRequest,
    size: Size,
    report: Callable[..., None],
    kind: str,
) -> None:
    """The server ends the session of an idle transaction, and so releases its locks."""
    database = database_of(request, kind)
    times = size(1, 5)
    chance = random.Random(SEED)
    with Proxy(database.server.port) as proxy:
        options = IMPATIENT | {
            "database": {"connection": f"{proxy.through(database.url)}?{database.impatient}"}
        }
        with Trial(vhost_url, database.url, casts=BURST * (times + 1), options=options) as trial:
            trial.start_worker()
            for number in range(1, times + 1):
                proxy.delay(0.005)
                put_to_work(chance, BURST * number, trial)
                stop_in_a_transaction(trial, database)
                proxy.delay(0)
                assert trial.unsettled()
                trial.wait_settled(trial.allowed)
                trial.workers.reverse()
                wake(trial, trial.worker)
            row = trial.finish(f"SIGSTOP in a transaction, a second worker, {database.name}", times)
    report(row)
