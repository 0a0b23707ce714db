# SPDX-License-Identifier: Apache-2.0
"""10,000 events, cast by stock oslo.messaging over RabbitMQ into PostgreSQL: rows and messages are right."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.daemon import Daemon
from tests.integration.notifications import check, data_of, of_type, usages
from tests.integration.rabbit import until
from tests.integration.stock import Caster, Listener
from tests.integration.workload import Day, days
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import ATTEMPTS, CLAIMS, DEAD_LETTERS, NODES, OUTBOX, RECEIPTS

EVENTS = 10_000
NODES_COUNT = 50
PROCESSES, THREADS = 2, 4

Json = dict[str, Any]


class Database:
    """The worker's tables, read."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)

    def rows(self, query: sa.Select[Any]) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def count(self, table: sa.Table) -> int:
        ((count,),) = self.rows(sa.select(sa.func.count()).select_from(table))
        return int(count)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.engine.dispose()


@pytest.mark.timeout(240)
def test_ten_thousand_casts_make_exactly_the_right_state_history_and_notifications(
    vhost_url: str, database_url: str, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = days(NODES_COUNT, EVENTS, seed=3)
    receipts = sum(len(day.history) + len(day.astray) for day in lives)
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(vhost_url, database_url))
        listener = stack.enter_context(Listener(tmp_path, vhost_url))
        daemon.wait_until_it_consumes()
        started = time.monotonic()
        casters = [
            stack.enter_context(Caster(tmp_path, vhost_url, threads, THREADS)) for threads in dealt(lives)
        ]
        cast = [caster.done(120) for caster in casters]
        daemon.wait_for(lambda: database.count(RECEIPTS) == receipts, "not all events are applied")
        applied = time.monotonic() - started
        daemon.wait_for(lambda: database.count(OUTBOX) == 0, "not all notifications are published")
        published = time.monotonic() - started
        check_state(database, lives)
        check_history(database, lives)
        check_dead_letters(database, lives)
        until(lambda: all_heard(database, listener, lives), "not all notifications are heard")
        check_notifications(database, listener.messages, lives)
    with capsys.disabled():
        rate = sum(each["sent"] / each["seconds"] for each in cast)
        print(
            f"\n{EVENTS} casts, {rate:.0f}/s; all applied after {applied:.1f} s, published after "
            f"{published:.1f} s: {len(listener.lines)} notifications"
        )
    assert sum(each["sent"] for each in cast) == EVENTS


def dealt(lives: list[Day]) -> list[list[list[Json]]]:
    """The casts of each thread of each process: every node's in order, the nodes' mixed."""
    threads: list[list[Json]] = []
    for number in range(PROCESSES * THREADS):
        left = [list(reversed(day.casts)) for day in lives[number :: PROCESSES * THREADS]]
        threads.append([])
        while left := [casts for casts in left if casts]:
            threads[-1] += [casts.pop() for casts in left]
    return [threads[number::PROCESSES] for number in range(PROCESSES)]


def check_state(database: Database, lives: list[Day]) -> None:
    columns = (NODES.c.name, NODES.c.vcpus_used, NODES.c.memory_mb_used, NODES.c.disk_mb_used)
    used = {name: tuple(amounts) for name, *amounts in database.rows(sa.select(*columns))}
    assert used == {day.node: day.expected.used for day in lives}
    held = {
        (row.node, row.instance_uuid, row.role): (
            row.vcpus,
            row.memory_mb,
            row.disk_mb,
            row.migration_uuid,
            row.vm_state,
            row.task_state,
        )
        for row in database.rows(sa.select(CLAIMS))
    }
    assert held == {(day.node, *key): row for day in lives for key, row in day.expected.rows.items()}
    assert database.count(ATTEMPTS) == 0


def check_history(database: Database, lives: list[Day]) -> None:
    """Every node's receipts are its casts in cast order; its sequence counts them and nothing else."""
    query = sa.select(RECEIPTS).where(RECEIPTS.c.sequence.is_not(None)).order_by(RECEIPTS.c.sequence)
    found: dict[str, list[Any]] = {day.node: [] for day in lives}
    for row in database.rows(query):
        found[row.node].append(row)
    sequences = dict(database.rows(sa.select(NODES.c.name, NODES.c.sequence)))
    for day in lives:
        rows = found[day.node]
        assert [row.sequence for row in rows] == list(range(1, sequences[day.node] + 1))
        seen = [
            # The id of a reused event is its first owner's: the receipt of the second one has another.
            (expected.event_id and row.event_id, row.outcome)
            for row, expected in zip(rows, day.history, strict=True)
        ]
        assert seen == [(expected.event_id, expected.outcome) for expected in day.history]


def check_dead_letters(database: Database, lives: list[Day]) -> None:
    letters = database.rows(sa.select(DEAD_LETTERS))
    assert {letter.state for letter in letters} == {"parked"}
    codes = {letter.code for letter in letters}
    assert codes == {
        "unknown_argument", "wrong_type", "out_of_range", "invalid_value", "missing_argument",
        "unknown_method", "unsupported_version", "wrong_partition", "event_id_reused",
    }  # fmt: skip
    for day in lives:
        own = [letter for letter in letters if letter.node == day.node]
        named = [letter.event_id for letter in own if letter.code != "event_id_reused"]
        parked = day.ids("parked")
        assert sorted(named) == sorted([*day.astray, *(each for each in parked if each)])
        assert len(own) - len(named) == parked.count(None)
        astray = [letter.event_id for letter in own if letter.code == "wrong_partition"]
        assert sorted(astray) == sorted(day.astray)


def all_heard(database: Database, listener: Listener, lives: list[Day]) -> bool:
    heard = listener.messages
    refused = sum(len(day.ids("refused")) for day in lives)
    last = {node: found[-1]["sequence"] for node, found in usages(heard).items()}
    return (
        len(of_type(heard, "compute_node.claim.error")) >= refused
        and len(of_type(heard, "compute_node.event.error")) >= database.count(DEAD_LETTERS)
        and last == dict(database.rows(sa.select(NODES.c.name, NODES.c.usage_sequence)))
    )


def check_notifications(database: Database, heard: list[Json], lives: list[Day]) -> None:
    check(heard)
    created = [data["node"] for data in of_type(heard, "compute_node.create")]
    assert sorted(created) == sorted(day.node for day in lives)
    letters = database.rows(sa.select(DEAD_LETTERS.c.id))
    told = [data["dead_letter_id"] for data in of_type(heard, "compute_node.event.error")]
    assert sorted(told) == sorted(letter.id for letter in letters)
    kinds = {message["event_type"].removeprefix("compute_node.") for message in heard}
    assert kinds == {"usage", "create", "claim.error", "event.error"}
    usage = usages(heard)
    refusals = [(data["node"], cause_of(data)) for data in of_type(heard, "compute_node.claim.error")]
    for day in lives:
        assert [event_id for node, event_id in refusals if node == day.node] == day.ids("refused")
        last = usage[day.node][-1]
        shown = (last["vcpus_used"], last["memory_mb_used"], last["local_gb_used"])
        assert shown == day.expected.used.shown
        assert last["running_vms"] == sum(role == "instance" for _, role in day.expected.claims.by_key)
        # The last event that changed anything is covered, and each is told as what it was.
        changed = [n for n, r in enumerate(day.history, 1) if r.outcome in ("applied", "granted")]
        assert last["sequence"] >= changed[-1]
        causes = {cause_of(data) for data in usage[day.node]}
        assert causes <= {*day.ids("applied"), *day.ids("granted")}


def cause_of(data: Json) -> str:
    """The id of the event behind a notification."""
    return str(data_of({"payload": data["cause"]})["event_id"])
