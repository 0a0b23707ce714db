# SPDX-License-Identifier: Apache-2.0
"""Mutants: faults that a worker could have, each of which the simulation must find.

Each is a context in which the real code is wrong in one place.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tracker_worker.bus.publisher import NotificationRefused
from tracker_worker.bus.rabbit.channel import RabbitDelivery
from tracker_worker.core.batch import Batch
from tracker_worker.core.node_progress import NodeProgress
from tracker_worker.core.quarantine import NO_ATTEMPTS, Attempts
from tracker_worker.core.records import NO_ROW, NodeChange, OutboxRow, Receipt, Transaction
from tracker_worker.db import attempts, outbox, receipts, retention, store
from tracker_worker.db.retention import Ages
from tracker_worker.db.tables import OUTBOX, RECEIPTS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain import audit, node
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim
from tracker_worker.worker import quarantine
from tracker_worker.worker.broken_nodes import BrokenNodes
from tracker_worker.worker.inbox import Inbox
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.node_cache import NodeCache
from tracker_worker.worker.purge import Purge, Purged
from tracker_worker.worker.relay import Relay

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {}


def planted(patch: Patch) -> Callable[[], AbstractContextManager[None]]:
    """Make a patch a context."""

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            patch(monkeypatch)
            yield

    return patched


def mutant(patch: Patch) -> Patch:
    """Register a mutant under the name of its function."""
    MUTANTS[patch.__name__] = planted(patch)
    return patch


@mutant
def acknowledges_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = Batch.transaction

    def answer_first(batch: Batch) -> Transaction:
        for delivery, answer in batch.answers():
            delivery.settle(answer)
        batch._answers = []
        return transaction(batch)

    monkeypatch.setattr(Batch, "transaction", answer_first)


@mutant
def leaves_no_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "add", lambda _connection, _receipts: None)


@mutant
def compares_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Batch.apply

    def trust(batch: Batch, event: Any) -> None:
        known = batch._known.get(event.event_id) or batch._receipts.get(event.event_id)
        apply(batch, event if known is None else replace(event, digest=known.digest))

    monkeypatch.setattr(Batch, "apply", trust)


@mutant
def swaps_without_comparing(monkeypatch: pytest.MonkeyPatch) -> None:
    swap = store.swap

    def overwrite(connection: sa.Connection, changes: list[NodeChange]) -> None:
        now = store.tokens(connection, [change.after.name for change in changes])
        for change in changes:
            sequence, commit_id = now.get(change.after.name, NO_ROW)
            change.before = replace(change.before, sequence=sequence, commit_id=commit_id)
        swap(connection, changes)

    monkeypatch.setattr(store, "swap", overwrite)


@mutant
def compares_the_sequence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover that lost commits, sequences are reused.

    The cache is never cleared: a lane that reloads its nodes when it loses a connection would hide the fault.
    """
    swap = store.swap

    def trust(connection: sa.Connection, changes: list[NodeChange]) -> None:
        now = store.tokens(connection, [change.after.name for change in changes])
        for change in changes:
            sequence, commit_id = now.get(change.after.name, NO_ROW)
            if sequence == change.before.sequence:
                change.before = replace(change.before, commit_id=commit_id)
        swap(connection, changes)

    monkeypatch.setattr(store, "swap", trust)
    monkeypatch.setattr(NodeCache, "clear", lambda _nodes: None)


@mutant
def writes_the_outbox_in_a_second_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = UnitOfWork.commit

    def commit_twice(unit_of_work: UnitOfWork, work: Transaction) -> None:
        commit(unit_of_work, replace(work, notifications=[]))
        if work.notifications:
            with unit_of_work._connection.transaction() as connection:
                outbox.add(connection, work.notifications)

    monkeypatch.setattr(UnitOfWork, "commit", commit_twice)


@mutant
def acknowledges_with_a_tag_of_a_closed_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = RabbitDelivery.settle

    def settle_anywhere(delivery: RabbitDelivery, answer: Any) -> None:
        subscription: Any = delivery._channel.subscription
        process = subscription._sink
        if delivery.live or process.subscription is None:
            settle(delivery, answer)
            return
        for channel in process.subscription._channels.values():
            if channel.partition == delivery.partition:
                channel.channel.basic_ack(delivery.tag, multiple=True)

    monkeypatch.setattr(RabbitDelivery, "settle", settle_anywhere)


@mutant
def keeps_its_cache_after_a_failed_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeCache, "forget", lambda _nodes, _names: None)
    monkeypatch.setattr(NodeCache, "clear", lambda _nodes: None)


@mutant
def refuses_from_a_stale_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt of a refusal is written without the compare-and-swap, because it changes no claim."""
    commit = UnitOfWork.commit

    def commit_refusals(unit_of_work: UnitOfWork, work: Transaction) -> None:
        mine = {receipt.node: receipt for receipt in work.receipts}
        outcomes = {(receipt.node, receipt.outcome) for receipt in work.receipts}
        for change in work.nodes:
            name = change.after.name
            if change.after.sequence > change.before.sequence + 1 or (name, "refused") not in outcomes:
                continue
            node = unit_of_work.load([name])[name]
            change.before, change.after = node, replace(node, sequence=node.sequence + 1)
            work.receipts[work.receipts.index(mine[name])] = replace(mine[name], sequence=node.sequence + 1)
        commit(unit_of_work, work)

    monkeypatch.setattr(UnitOfWork, "commit", commit_refusals)


@mutant
def stops_without_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "run", lambda lane: lane._unit_of_work.close())


@mutant
def adds_what_it_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proofs of the sum, which would refuse the batch."""

    def add(claimed: Amounts, dropped: Claim | None) -> Amounts:
        return claimed if dropped is None else claimed.plus(dropped.amounts)

    monkeypatch.setattr(node, "_without", add)
    monkeypatch.setattr(NodeProgress, "prove_sum", lambda _progress: None)


@mutant
def leaves_what_it_releases_in_the_running_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proofs of the sum stay: they park the event, which is innocent."""
    monkeypatch.setattr(node, "_without", lambda claimed, _dropped: claimed)


@mutant
def parks_the_events_of_a_broken_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_worker.worker.node_cache.sum_faults", lambda _nodes: {})


@mutant
def forgets_the_events_of_a_broken_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tracker_worker.core.held.HeldEvents.release", lambda held, node: held._events.pop(node)[:0]
    )


@mutant
def never_counts_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "record", lambda _connection, _attempts: None)


@mutant
def counts_attempts_again_when_a_commit_seems_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    record = attempts.record

    def add(connection: sa.Connection, begun: dict[str, Attempts]) -> None:
        recorded = attempts.find(connection, begun)
        record(connection, {key: recorded.get(key, NO_ATTEMPTS).begin() for key in begun})

    monkeypatch.setattr(attempts, "record", add)


@mutant
def forgets_the_attempts_of_events_that_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(connection: sa.Connection, event_ids: list[str], *_attempts: Attempts) -> None:
        attempts.forget(connection, event_ids)

    monkeypatch.setattr(attempts, "take_back", forget)


@mutant
def counts_no_attempts_of_events_that_were_held(monkeypatch: pytest.MonkeyPatch) -> None:
    recheck = BrokenNodes.recheck

    def release_as_new(broken: BrokenNodes) -> Any:
        released: Any = recheck(broken)
        for delivery in released:
            delivery.redelivered = False
        return released

    monkeypatch.setattr(BrokenNodes, "recheck", release_as_new)


@mutant
def applies_late_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_worker.domain.decide._is_stale", lambda _node, _command: False)


@mutant
def takes_an_audit_for_a_repetition_although_events_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    evolve = node.evolve

    def keep_last_audit(before: node.Node, changes: Any) -> node.Node:
        return replace(evolve(before, changes), last_audit=before.last_audit)

    monkeypatch.setattr("tracker_worker.core.batch.evolve", keep_last_audit)


@mutant
def ignores_what_was_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_is_newer", lambda _origin, _facts: False)


@mutant
def takes_sent_notifications_for_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay removes notifications that the broker has not confirmed."""
    publish = Relay.publish_window

    def publish_and_hope(relay: Relay) -> bool:
        hopeful: Any = _Hopeful(relay._publisher)
        publisher, relay._publisher = relay._publisher, hopeful
        try:
            return publish(relay)
        finally:
            relay._publisher = publisher

    monkeypatch.setattr(Relay, "publish_window", publish_and_hope)


class _Hopeful:
    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    def publish(self, rows: Any) -> int:
        self._publisher.publish(rows)
        return len(rows)


def _know_by_id(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: dict[str, int] = {}

    def window(connection: sa.Connection, but: Iterable[str], most: int, _size: int) -> list[Any]:
        known = [ids[message_id] for message_id in but]
        query = sa.select(OUTBOX).where(OUTBOX.c.id.not_in(known)).order_by(OUTBOX.c.id).limit(most)
        rows = [OutboxRow(**row._mapping) for row in connection.execute(query)]
        ids.update((row.message_id, row.id) for row in rows)
        return rows

    def remove(connection: sa.Connection, published: dict[int, str]) -> None:
        connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(published.keys())))

    monkeypatch.setattr(outbox, "window", window)
    monkeypatch.setattr(outbox, "remove", remove)


@mutant
def removes_notifications_by_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found only behind a pooler: otherwise the failover ends the connection with an error."""
    _know_by_id(monkeypatch)


@mutant
def removes_notifications_by_id_alone_and_keeps_them_over_a_failover(monkeypatch: pytest.MonkeyPatch) -> None:
    _know_by_id(monkeypatch)
    monkeypatch.setattr(Relay, "_transaction", lambda relay: relay._database.transaction())


@mutant
def sends_a_refused_notification_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notifications behind it are never published."""
    monkeypatch.setattr(Relay, "_publish", Relay._send)


@mutant
def drops_what_waits_with_a_refused_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay removes the whole window as if all of it were refused."""

    def publish(relay: Relay, rows: Any) -> None:
        try:
            relay._send(rows)
        except NotificationRefused:
            relay._unremoved |= {row.id: row.message_id for row in rows}

    monkeypatch.setattr(Relay, "_publish", publish)


@mutant
def purges_receipts_by_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ages = retention.ages

    def aged_by_now(connection: sa.Connection, names: list[str]) -> list[Ages]:
        now = retention.now(connection)
        return [replace(each, newest_at=now) for each in ages(connection, names)]

    monkeypatch.setattr(retention, "ages", aged_by_now)


@mutant
def dates_receipts_by_the_workers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    transaction, add = Batch.transaction, receipts.add
    clock: list[datetime] = []

    def note_clock(batch: Batch) -> Transaction:
        clock[:] = [batch._context.clock()]
        return transaction(batch)

    def add_dated(connection: sa.Connection, added: list[Receipt]) -> None:
        add(connection, added)
        mine = RECEIPTS.c.event_id.in_([receipt.event_id for receipt in added])
        connection.execute(sa.update(RECEIPTS).where(mine).values(recorded_at=clock[0]))

    monkeypatch.setattr(Batch, "transaction", note_clock)
    monkeypatch.setattr(receipts, "add", add_dated)


@mutant
def purges_the_newest_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    run_once = Purge.run_once

    def run_to_the_end(purge: Purge) -> Purged:
        purge._settings = replace(purge._settings, newest_receipts=0)
        return run_once(purge)

    monkeypatch.setattr(Purge, "run_once", run_to_the_end)


@mutant
def answers_reads_from_a_stale_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane answers after it lost its partitions, too: dropping its deliveries would hide the fault."""
    commit = UnitOfWork.commit

    def commit_writes(unit_of_work: UnitOfWork, work: Transaction) -> None:
        commit(unit_of_work, replace(work, unchanged={}))

    monkeypatch.setattr(UnitOfWork, "commit", commit_writes)
    monkeypatch.setattr(Inbox, "was_dropped", lambda _inbox: False)


@mutant
def forgets_what_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inbox, "defer", lambda _inbox, _deliveries: None)


@mutant
def never_resumes_what_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inbox, "resume", lambda _inbox: None)


@mutant
def lets_others_overtake_what_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    admit = quarantine.Quarantine.admit

    def defer_alone(self: Any, deliveries: Any, is_warm: Any, defer: Any) -> Iterator[Any]:
        later: list[Any] = []
        yield from admit(self, deliveries, is_warm, later.extend)
        if later:
            defer(later[:1])
            yield from admit(self, later[1:], is_warm, defer)

    monkeypatch.setattr(quarantine.Quarantine, "admit", defer_alone)
