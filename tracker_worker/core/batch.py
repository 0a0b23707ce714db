# SPDX-License-Identifier: Apache-2.0
"""One batch: decoded events in, everything that its transaction commits and every answer out.

No I/O here: a Snapshot has what was read from the database; clock and ids are functions.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.decode import Event, attempts_key, internal_error, read_unless_repeated
from tracker_worker.core.delivery import Answer, Delivery
from tracker_worker.core.node_progress import NodeProgress
from tracker_worker.core.notification_body import Header, encode_bounded
from tracker_worker.core.records import (
    NO_DELTA,
    REBUILD,
    DeadLetter,
    NodeChange,
    OutboxRow,
    Receipt,
    Token,
    Transaction,
    encode_delta,
    replayed_letter,
    token_of,
)
from tracker_worker.core.redaction import redacted_body
from tracker_worker.core.replies import PONG, answer_to, decided_reply, parked_reply, question_error
from tracker_worker.core.unread_audit import UnreadAudit
from tracker_worker.domain.commands import VERSION, GetNode, LedgerCommand, RepeatedAudit
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Audited, Decision, Outcome
from tracker_worker.domain.deltas import delta_of
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.node import (
    Change,
    Mark,
    Node,
    evolve,
    rebuilt,
    remember,
    sum_fault,
)
from tracker_worker.domain.notifications import (
    CausePayload,
    Notification,
    effect_notification,
    event_error_notification,
)
from tracker_worker.domain.provider_facts import providers_differ
from tracker_worker.domain.report import Owner
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.views import node_view
from tracker_worker.exceptions import NodeNotFound


class BatchContext(Struct, frozen=True):
    """What a batch needs besides its events: settings, partition count, clock and ids from outside.

    `mark_providers`: nodes are marked whose resource providers change.
    """

    tracker: TrackerSettings
    partitions: int
    publisher_id: str
    notify: bool
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    mark_providers: bool = False


class Snapshot(Struct, frozen=True):
    """The database's state before a batch: receipts, nodes (untracked ones included), owners of uuids.

    `unchecked_id`: the id of the only event, if its receipt was not looked up.
    """

    receipts: Mapping[str, Receipt]
    nodes: Mapping[str, Node]
    uuid_owners: Mapping[str, Owner]
    unchecked_id: str | None = None


class Batch:
    """Applies events one after the other to copies of the nodes; `transaction` and `answers` are the result.

    Belongs to its lane's thread. An event that raises an exception changes nothing and is parked; the other
    events are applied.
    """

    def __init__(self, snapshot: Snapshot, context: BatchContext) -> None:
        self._context = context
        self._known = snapshot.receipts
        self._unchecked_id = snapshot.unchecked_id
        self._nodes = snapshot.nodes
        self._owners = dict(snapshot.uuid_owners)
        self._progress: dict[str, NodeProgress] = {}
        self._receipts: dict[str, Receipt] = {}
        self._letters: list[DeadLetter] = []
        self._notifications: list[tuple[str | None, Notification]] = []
        self._finished: list[str] = []
        self._unchanged: dict[str, Token] = {}
        self._views: dict[tuple[str, int], dict[str, Any]] = {}
        self._answers: list[tuple[Delivery, Answer]] = []
        self._decisions: list[tuple[Event, Decision]] = []

    def apply(self, event: Event) -> None:
        """Apply one event."""
        known = self._known.get(event.event_id) or self._receipts.get(event.event_id)
        if isinstance(event.command, UnreadAudit):
            event = read_unless_repeated(
                event, known, self._node(event.command.node), self._context.partitions
            )
        if event.delivery.redelivered:
            self._finished.append(attempts_key(event.delivery))
        if event.is_ping:
            self._answers.append((event.delivery, PONG))
        elif event.is_question:
            self._answer_question(event)
        elif known is not None and known.digest == event.digest:
            self._answer(event, known.reply)
        elif known is not None:
            self._park_reused(event)
        elif event.error is not None or event.command is None:
            self._park(event, event.error or BadMessage(ErrorCode.INTERNAL_ERROR, "$", "no command"))
        elif isinstance(event.command, GetNode):
            self._show(event, event.command)
        elif isinstance(event.command, UnreadAudit):
            audit = event.command
            self._decide(event, RepeatedAudit(node=audit.node, origin=audit.origin, as_of=audit.as_of))
        else:
            self._decide(event, event.command)

    def transaction(self) -> Transaction:
        """Return what to commit; proves every node's sum first."""
        commit_id = self._context.new_id() if self._progress else ""
        for progress in self._progress.values():
            progress.prove_sum()
            progress.change.after = replace(progress.change.after, commit_id=commit_id)
            if self._context.notify and (usage := progress.usage_notification()) is not None:
                self._notifications.append((progress.change.after.name, usage))
        changed = [progress.change for progress in self._progress.values()]
        names = {change.after.name for change in changed}
        return Transaction(
            nodes=changed,
            receipts=list(self._receipts.values()),
            dead_letters=self._letters,
            notifications=self._outbox_rows() if self._context.notify else [],
            finished_attempts=self._finished,
            unchanged={name: token for name, token in self._unchanged.items() if name not in names},
            unsynced=self._unsynced(changed) if self._context.mark_providers else (),
            unchecked_id=self._unchecked_id,
        )

    @staticmethod
    def _unsynced(changed: Iterable[NodeChange]) -> list[str]:
        """Return the nodes whose providers change; a new one is synced without a mark."""
        return [
            each.after.name
            for each in changed
            if each.before.sequence and providers_differ(each.before, each.after)
        ]

    def rebuild(self, name: str, event_id: str, request_id: str | None = None) -> None:
        """Set a node's running sum to the sum of its claims, as an event with its own id and receipt.

        The reason in its reply says what was corrected, `request_id` who has asked for it.
        """
        before = self._node(name)
        after = evolve(rebuilt(before), ())
        progress = self._advance(after, ())
        progress.events += 1
        progress.visible += 1
        progress.corrected = True
        progress.cause = CausePayload(REBUILD, event_id, request_id, None)
        outcome = Outcome.APPLIED.value
        self._receipts[event_id] = Receipt(
            event_id=event_id,
            digest=event_id,
            node=name,
            sequence=after.sequence,
            method=REBUILD,
            outcome=outcome,
            reply={"outcome": outcome, "sequence": after.sequence, "reason": sum_fault(before)},
            request_id=request_id,
        )

    def report_broken(self, event: Event, reason: str) -> None:
        """Add the notification that a node's ledger is broken; `event` is the first of the held events."""
        node = Node(event.node or "")
        notification = event_error_notification(node, event.cause, ErrorCode.LEDGER_BROKEN, "$.node", reason)
        self._notifications.append((event.node, notification))

    def answers(self) -> list[tuple[Delivery, Answer]]:
        """Return the answer to each delivery, in the order of the deliveries."""
        return self._answers

    def decisions(self) -> list[tuple[Event, Decision]]:
        """Return the events that were decided, with what was decided."""
        return self._decisions

    def nodes(self) -> list[Node]:
        """Return the changed nodes as they are after the commit."""
        return [progress.change.after for progress in self._progress.values()]

    def _park_reused(self, event: Event) -> None:
        """Park an event whose id another command used, under its digest, by which a redelivery is found."""
        known = self._known.get(event.digest) or self._receipts.get(event.digest)
        if known is not None:
            self._answer(event, known.reply)
            return
        text = "the event id was another command's"
        bad = BadMessage(ErrorCode.EVENT_ID_REUSED, "$.event_id", text)
        self._park(replace(event, event_id=event.digest), bad)

    def _node(self, name: str) -> Node:
        progress = self._progress.get(name)
        return progress.change.after if progress else self._nodes[name]

    def _answer_question(self, event: Event) -> None:
        """Answer a question without a receipt: its event id is not used, each delivery is answered anew."""
        if isinstance(event.command, GetNode) and event.error is None:
            self._show(event, event.command)
        elif event.envelope is not None and event.error is not None:
            error = question_error(event.envelope.method, event.envelope.version, event.error)
            self._answers.append((event.delivery, error))

    def _show(self, event: Event, command: GetNode) -> None:
        node = self._node(command.node)
        self._unchanged[node.name] = token_of(self._nodes[node.name])
        answer: Answer = NodeNotFound(f"node {node.name} is not tracked")
        if node.tracked:
            # Reads at the same sequence share a view: that of a large node takes some hundred KB.
            key = node.name, node.sequence
            answer = self._views[key] = self._views.get(key) or node_view(node)
        self._answers.append((event.delivery, answer))

    def _decide(self, event: Event, command: LedgerCommand | RepeatedAudit) -> None:
        node, cause = self._node(command.node), event.cause
        try:
            decision = decide(node, command, self._context.tracker, self._owners)
            changes: tuple[Change, ...] = (*decision.changes, *decision.marks)
            # A replay always needs a receipt, which sets its dead letter to `replayed`.
            recorded = decision.recorded or replayed_letter(event.event_id) is not None
            moved = recorded and (node.known or decision.makes_row)
            marks = decision.marks if node.known or moved else ()
            after = evolve(node, changes) if moved else remember(node, marks)
            if not recorded and decision.reason is None and not after.last_origins:
                after = replace(after, last_audit=event.audit)
            notifications = [effect_notification(effect, after, cause) for effect in decision.effects]
            delta = encode_delta(delta_of(node, after, decision, cause.instance_uuid))
            reply = decided_reply(decision, after.sequence)
        except Exception as error:
            self._park(event, internal_error(error))
            return
        self._decisions.append((event, decision))
        if moved:
            progress = self._advance(after, changes)
            progress.events += 1
            progress.corrected |= any(isinstance(effect, Audited) for effect in decision.effects)
            if decision.changes:
                progress.visible += 1
                progress.cause = cause
            self._own_uuids(node, after)
        else:
            self._remember(after, marks)
        if recorded:
            self._notifications += [(node.name, notification) for notification in notifications]
            sequence = after.sequence if moved else None
            self._receive(event, cause, node.name, sequence, decision.outcome.value, reply, delta)
        else:
            self._answer(event, reply)

    def _remember(self, after: Node, marks: tuple[Mark, ...]) -> None:
        """Save an event's marks at the same sequence. Without marks the commit checks the node's token."""
        if marks:
            self._advance(after, marks)
        else:
            self._unchanged[after.name] = token_of(self._nodes[after.name])

    def _own_uuids(self, before: Node, after: Node) -> None:
        """Update the owners of uuids for later reports in this batch."""
        if before.resources is not None and not after.tracked:
            self._owners.pop(before.resources.uuid, None)
        if after.resources is not None:
            self._owners[after.resources.uuid] = Owner(after.name, after.resources.host)

    def _advance(self, after: Node, changes: Iterable[Change]) -> NodeProgress:
        progress = self._progress.get(after.name)
        if progress is None:
            before = self._nodes[after.name]
            progress = NodeProgress(NodeChange(before, after, set(), set()))
            self._progress[after.name] = progress
        progress.advance(after, changes)
        return progress

    def _park(self, event: Event, bad: BadMessage) -> None:
        """Keep the event as a dead letter.

        Its receipt increments the sequence of its node, if the node is in this partition and has a row.
        """
        letter_id, cause = self._context.new_id(), event.cause
        node = self._node(event.node) if event.node is not None and event.belongs_here else None
        sequence = None
        if node is not None and node.sequence:
            node = evolve(node, ())
            sequence = node.sequence
            self._advance(node, ()).events += 1
        reply = parked_reply(bad)
        self._letters.append(
            DeadLetter(
                id=letter_id,
                event_id=event.event_id,
                code=bad.code.value,
                path=bad.path,
                message=bad.message,
                node=event.node,
                method=event.printable_method,
                body=redacted_body(event.delivery.body, event.envelope),
                sequence=self._sequence_seen(event, sequence),
                position=len(self._letters),
                request_id=cause.request_id,
                reply_host=None if event.envelope is None else event.envelope.reply_host,
            )
        )
        about = node or (Node(event.node) if event.node is not None else None)
        notification = event_error_notification(about, cause, bad.code, bad.path, bad.message, letter_id)
        self._notifications.append((event.node, notification))
        self._receive(event, cause, event.node, sequence, reply["outcome"], reply)

    def _sequence_seen(self, event: Event, own: int | None) -> int | None:
        """Return the current sequence of a parked event's node; None if the batch has not loaded the node."""
        if own is not None or event.node is None:
            return own
        return self._node(event.node).sequence if event.node in self._nodes else None

    def _receive(
        self,
        event: Event,
        cause: CausePayload,
        node: str | None,
        sequence: int | None,
        outcome: str,
        reply: dict[str, Any],
        delta: str = NO_DELTA,
    ) -> None:
        self._receipts[event.event_id] = Receipt(
            event_id=event.event_id,
            digest=event.digest,
            node=node,
            sequence=sequence,
            method=event.method,
            outcome=outcome,
            reply=reply,
            instance_uuid=cause.instance_uuid,
            request_id=cause.request_id,
            delta=delta,
        )
        self._answer(event, reply)

    def _answer(self, event: Event, reply: dict[str, Any]) -> None:
        method = event.envelope.method if event.envelope else None
        version = event.envelope.version if event.envelope else VERSION
        self._answers.append((event.delivery, answer_to(method, version, reply)))

    def _outbox_rows(self) -> list[OutboxRow]:
        now = self._context.clock()
        rows = []
        for node, notification in self._notifications:
            message_id = self._context.new_id()
            sent, body = encode_bounded(Header(message_id, self._context.publisher_id, now), notification)
            rows.append(OutboxRow(node, sent.event_type, sent.priority, message_id, body))
        return rows
