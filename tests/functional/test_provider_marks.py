# SPDX-License-Identifier: Apache-2.0
"""A node whose providers change is marked by the transaction that changes it: no kill loses the mark."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.builders import NODE, a_report, some_resources
from tests.functional.lanes import LaneBench
from tracker_worker.core.records import Transaction
from tracker_worker.db import providers
from tracker_worker.db.providers import SyncRecord
from tracker_worker.db.unit_of_work import UnitOfWork

EVENT = "the-change"
MOST_COMMITS = 5


class Killed(BaseException):
    """The process is killed. Not an Exception, so that no handler catches it."""


def report(vcpus: int) -> Any:
    return a_report(resources=some_resources(vcpus=vcpus))


def sync(engine: sa.Engine) -> None:
    """What is due is synced, completely."""
    with engine.begin() as connection:
        providers.add_missing(connection)
        for due in providers.due(connection, providers.due_nodes(connection, 100)):
            providers.record(connection, [SyncRecord(due, [], "d", due_in=300.0, complete=True)])


def is_due(engine: sa.Engine) -> bool:
    with engine.begin() as connection:
        return providers.due_nodes(connection, 100) == [NODE]


def kill_after(engine: sa.Engine, number: int) -> Callable[[], None]:
    """Kill the process after so many commits more; returns what ends that."""
    left = number

    def committed(_connection: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    # SQLAlchemy's own event comes before the commit: the driver's connection is asked after it.
    def commit(dbapi_connection: Any) -> None:
        plain(dbapi_connection)
        committed(dbapi_connection)

    plain = engine.dialect.do_commit
    engine.dialect.do_commit = commit  # type: ignore[method-assign]

    def stop() -> None:
        engine.dialect.do_commit = plain  # type: ignore[method-assign]

    return stop


def change_and_kill(engine: sa.Engine, a_bench: Callable[..., LaneBench], number: int) -> None:
    """Sync a node, change it with a kill after so many commits, and redeliver the event to another worker."""
    bench = a_bench(mark_providers=True)
    bench.send(report(8))
    sync(engine)
    assert not is_due(engine)
    stop = kill_after(engine, number)
    try:
        bench.send(report(12), EVENT)
    except Killed:
        pass
    finally:
        stop()
    a_bench(mark_providers=True).send(report(12), EVENT, redelivered=True)


@pytest.mark.parametrize("number", range(1, MOST_COMMITS + 1))
def test_a_kill_after_any_commit_loses_no_mark(
    engine: sa.Engine, a_bench: Callable[..., LaneBench], number: int
) -> None:
    change_and_kill(engine, a_bench, number)
    assert is_due(engine)


def test_a_mark_in_a_transaction_of_its_own_is_found_out(
    engine: sa.Engine, a_bench: Callable[..., LaneBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: the check above can fail."""
    commit = UnitOfWork.commit

    def commit_twice(unit_of_work: UnitOfWork, work: Transaction) -> None:
        commit(unit_of_work, replace(work, unsynced=()))
        if work.unsynced:
            with unit_of_work._connection.transaction() as connection:
                providers.mark(connection, work.unsynced)

    monkeypatch.setattr(UnitOfWork, "commit", commit_twice)
    for number in range(1, MOST_COMMITS + 1):
        change_and_kill(engine, a_bench, number)
        if not is_due(engine):
            return
        sync(engine)
    raise AssertionError("no kill has lost the mark")
