# SPDX-License-Identifier: Apache-2.0
"""Dead letters are replayed exactly once, also when the command is repeated or anything is killed."""

import random
from collections.abc import Callable
from typing import Any, Self

import pytest
import sqlalchemy as sa

from tests.chaos.backlog import Backlog, Uneven
from tests.chaos.conftest import Size
from tests.chaos.queues import ready
from tests.chaos.trial import MANAGE_LOG
from tests.delivery.load import PARTITIONS, node_names, schedule, server_of
from tests.servers.rabbitmq import RabbitMQ

SEED = 1
BATCH = 16
"""Small, so that a worker can be killed in the middle."""


class Replayed(Uneven):
    """The oracle's database, with the replay of a letter shown as the parked event."""

    def _rows(self, statement: str) -> list[Any]:
        letters = {row.id: row for row in super()._rows("SELECT id, event_id, state FROM dead_letters")}
        given_up = {row.event_id for row in letters.values() if row.state == "replayed"}
        rows = []
        for row in super()._rows(statement):
            if "event_id" not in row._fields:
                rows.append(row)
            elif (letter := letters.get(row.event_id.partition(".")[0])) is not None:
                rows.append(Renamed(row, letter.event_id))
            elif row.event_id not in given_up:
                rows.append(row)
        return rows


class Renamed(tuple[Any, ...]):
    """A row under another event id, its first column."""

    def __new__(cls, row: sa.Row[Any], event_id: str) -> "Renamed":
        return super().__new__(cls, (event_id, *row[1:]))

    def __init__(self, row: sa.Row[Any], event_id: str) -> None:
        self.__dict__.update(row._mapping, event_id=event_id)


class LetterTrial(Backlog):
    """All events but the nodes' reports are parked, because they are cast to wrong partitions.

    Claims are among them, whose replay asks for --force.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        self.ledger = Replayed(self.engine, self.due)
        return self

    def park(self) -> list[str]:
        """Cast all events; return the ids of the letters in the order in which they were parked."""
        self.publish_events((node, 0) for node in node_names())
        self.start()
        self.wait_settled(len(node_names()))
        for partition in range(PARTITIONS):
            mine = [x for x in schedule(self.casts, 0, 1) if server_of(x[1]) == f"p{partition}" and x[2]]
            self.publish_events(((node, n) for _, node, n in mine), f"p{(partition + 1) % PARTITIONS}")
        self.allowed = self.casts
        self.wait_settled(self.casts)
        return self.column("SELECT id FROM dead_letters WHERE state = 'parked' ORDER BY recorded_at")

    def kill_publishing(self, letters: list[str], more: int) -> None:
        """Replay letters without a worker; kill the command once so many more messages wait."""
        before = self.waiting()
        command = self.replay(letters, "--force")

        def part_is_published() -> bool:
            assert command.poll() is None, self.processes.tail(MANAGE_LOG)
            return self.waiting() >= before + more

        self.wait_for(part_is_published, "a part to be published")
        self.processes.kill(command)
        assert self.waiting() < before + len(letters), "it had published all"

    def kill_settling(self, letters: list[str]) -> None:
        """Replay letters twice at once while a worker settles them, and kill it."""
        commands = [self.replay(letters, "--force") for _ in range(2)]
        done = self.replayed()
        self.start()
        self.wait_for(lambda: done < self.replayed() or done == len(letters), "a letter to be replayed")
        self.kill_worker()
        for command in commands:
            self.ended(command)

    def waiting(self) -> int:
        """The number of waiting messages."""
        return ready(self.broker.url)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["database_url", "sqlite_url"], ids=["postgresql", "sqlite"])
def test_every_letter_is_replayed_once_whatever_is_killed(
    database: str,
    request: pytest.FixtureRequest,
    vhost_url: str,
    rabbitmq: RabbitMQ,
    size: Size,
    report: Callable[..., None],
) -> None:
    casts, rounds = size(250, 2_500), size(1, 20)
    chance = random.Random(SEED)
    part_done = 0
    url = request.getfixturevalue(database)
    with LetterTrial(vhost_url, url, casts, options={"worker": {"batch_size": BATCH}}) as trial:
        letters = trial.park()
        assert len(letters) == casts - len(node_names())
        trial.kill_worker()
        for number in range(rounds):
            trial.kill_publishing(letters, chance.randint(1, len(letters) // 2))
            if number == 0:
                rabbitmq.stop()
                rabbitmq.start()
            trial.kill_settling(letters)
            part_done += 0 < trial.replayed() < len(letters)
        trial.start()
        trial.wait_for(lambda: trial.replayed() == len(letters), "all letters replayed")
        output = trial.ended(trial.replay(letters, "--force"))
        settled = trial.settled()
        row = trial.finish(f"letters replayed again and again, {trial.engine.dialect.name}", rounds)
        states = trial.column("SELECT DISTINCT state FROM dead_letters")
        replays = trial.column("SELECT event_id FROM receipts WHERE event_id LIKE '%-%-%-%-%.%'")
    assert part_done, "no worker was killed in the middle"
    assert output.count("replayed before") == len(letters), output
    assert states == ["replayed"]
    assert sorted(replays) == sorted(f"{letter}.1" for letter in letters)
    assert settled == casts + len(letters)
    report(row)
