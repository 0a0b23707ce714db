# SPDX-License-Identifier: Apache-2.0
"""A backlog on a slow database: the worker's memory does not grow with it, even when the broker is killed."""

import time
from collections.abc import Callable

import psutil
import pytest
import sqlalchemy as sa

from tests.chaos.backlog import Backlog
from tests.chaos.conftest import Size
from tests.chaos.queues import ready
from tests.delivery.load import PARTITIONS
from tests.servers.rabbitmq import RabbitMQ

COMMIT_SECONDS = 0.1  # the longest that PostgreSQL allows
PREFETCH = 64
HEARTBEAT = 6
MEBIBYTE = 1024 * 1024
MOST_MEMORY = 200 * MEBIBYTE
MOST_GROWTH = 40 * MEBIBYTE
SECONDS = 1800
PAUSE = 0.25


class Watch:
    """Samples of a worker under load: its resident memory, and its unsettled messages."""

    def __init__(self, trial: Backlog, rabbitmq: RabbitMQ) -> None:
        self._trial = trial
        self._rabbitmq = rabbitmq
        self._process = psutil.Process(trial.worker.pid)
        self._vhost = trial.broker.url.rpartition("/")[2]
        self.memory: list[int] = []
        self.unacknowledged = 0

    def until(self, settled: int) -> float:
        """Sample until so many events are settled; return how many messages a second left the queues."""
        before, started = ready(self._trial.broker.url), time.monotonic()
        # The broker's statistics of its queues are some seconds old, and empty at first.
        while (now := self._trial.settled()) < settled or not self.unacknowledged:
            assert time.monotonic() - started < SECONDS, f"{now} of {settled} events in {SECONDS} s"
            self.memory.append(self._process.memory_info().rss)
            queues = self._rabbitmq.api("GET", f"queues/{self._vhost}")
            unacknowledged = [queue.get("messages_unacknowledged", 0) for queue in queues]
            self.unacknowledged = max(self.unacknowledged, *unacknowledged)
            time.sleep(PAUSE)
        return (before - ready(self._trial.broker.url)) / (time.monotonic() - started)

    @property
    def growth(self) -> int:
        """The maximum of all samples minus the maximum of the first quarter."""
        return max(self.memory) - max(self.memory[: max(len(self.memory) // 4, 1)])


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("quorum", [False, True], ids=["durable", "quorum"])
def test_a_backlog_on_a_slow_database_costs_no_memory(
    quorum: bool,
    rabbitmq: RabbitMQ,
    vhost_url: str,
    database_url: str,
    size: Size,
    report: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    casts = size(30_000, 200_000)
    options = {
        "worker": {"prefetch": PREFETCH},
        "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": HEARTBEAT, "heartbeat_rate": 2},
    }
    with Backlog(vhost_url, database_url, casts, quorum=quorum, options=options) as trial:
        make_slow(trial)
        trial.publish(casts)
        worker = trial.start()
        watch = Watch(trial, rabbitmq)
        rate = watch.until(casts // 4)
        rabbitmq.write_down_declarations()
        watch.until(casts // 2)
        before = trial.log_of(worker)
        rabbitmq.kill_at_once()
        left = casts - trial.settled()
        rabbitmq.start()
        assert left, "the broker was killed too late"
        again, resumed = wait_for_progress(trial, left)
        # Without the last ones: shorter partitions are empty then, and a commit settles fewer.
        rate_after = watch.until(casts - left // 2)
        watch.until(casts)
        kind = "quorum" if quorum else "durable"
        row = trial.finish(f"broker killed, slow database, {kind} queues", 1, resumed=resumed)
    with capsys.disabled():
        print(
            f"\n{kind}: {rate:.0f} events/s; after the broker was killed it had {again} settled ones "
            f"to hand out, {resumed:.0f} s until the worker goes on, {rate_after:.0f} events/s; RSS at most "
            f"{max(watch.memory) / MEBIBYTE:.0f} MiB, growth {watch.growth / MEBIBYTE:.0f} MiB; at most "
            f"{watch.unacknowledged} of a partition unacknowledged"
        )
    report(row)
    assert before.count("Consuming from") == 1 and "cannot be used" not in before, "it lost its connection"
    assert watch.growth < MOST_GROWTH
    assert max(watch.memory) < MOST_MEMORY
    assert 0 < watch.unacknowledged <= PREFETCH
    assert rate_after > rate / 4, (rate, rate_after)


def wait_for_progress(trial: Backlog, left: int) -> tuple[int, float]:
    """Wait until the worker makes progress after a restart of the broker with `left` unsettled events.

    Return the minimum number of settled events that are redelivered, and the seconds.

    A classic queue forgets acknowledgements when its broker is killed, thousands at times. Each of these
    messages is known by its receipt and leaves no new one.
    """
    url, started, settled = trial.broker.url, time.monotonic(), trial.settled()
    waiting = ready(url)
    taken = PREFETCH * PARTITIONS
    trial.wait_for(
        lambda: trial.settled() > settled or ready(url) < waiting - taken, "something done for the broker"
    )
    return max(waiting - left, 0), time.monotonic() - started


def make_slow(trial: Backlog) -> None:
    """Make the server wait before each commit, as with a slower disk."""
    with trial.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        for setting, value in (("commit_delay", round(COMMIT_SECONDS * 1e6)), ("commit_siblings", 0)):
            connection.execute(sa.text(f"ALTER DATABASE {name} SET {setting} = {value}"))
    trial.engine.dispose()
    with trial.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO attempts VALUES ('', '2026-11-22', 1, false)"))
        started = time.monotonic()
    assert time.monotonic() - started >= COMMIT_SECONDS, "commits are not slow"
    with trial.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM attempts"))
