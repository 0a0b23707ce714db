# SPDX-License-Identifier: Apache-2.0
"""`placement audit`: the claims of nodes against their allocations in Placement."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.cmd.failures import INTERRUPTED, CommandFailed
from tracker_worker.cmd.manage.every_node import NODES_AT_ONCE
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    converting_output_errors,
    print_diagnostic,
    print_document,
    print_rows,
)
from tracker_worker.cmd.manage.loading import loaded, untracked
from tracker_worker.cmd.manage.placement_commands import INCOMPLETE
from tracker_worker.cmd.manage.placement_findings import Audited, Evidence, audit_nodes
from tracker_worker.cmd.manage.placement_fix import remove_left_over
from tracker_worker.cmd.manage.session import engine_at_head, reporting_database_errors, snapshot_of
from tracker_worker.cmd.placement import placement_client
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.core.history import StoredEvent
from tracker_worker.db import claim_queries
from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.audit import FindingKind
from tracker_worker.placement.errors import PlacementError

PROVED = "its last event on this node has released it, and no node claims it"
NOT_FIXED = "the audit has not ended: --fix removes nothing"
REMOVED, WOULD_BE_REMOVED, LEFT, WOULD_BE_LEFT = "removed", "would be removed", "left", "would be left"
_RESULTS = (REMOVED, WOULD_BE_REMOVED, LEFT, WOULD_BE_LEFT)
_COLUMNS = ("node", "finding", "consumer", "ledger", "placement", "explanation", "result")
_EVENT = ("recorded_at", "method", "outcome", "request_id")
_WAYS_OUT = {
    FindingKind.MISSING: "missing: 'nova-manage placement heal_allocations --instance INSTANCE' allocates "
    "for an instance that does not move",
    FindingKind.SIZE: "size: 'nova-manage placement heal_allocations --force --instance INSTANCE' corrects "
    "it, unless resources:* of the flavor override the amount",
    FindingKind.ORPHANED: "orphaned: --fix removes what the ledger proves; 'nova-manage placement audit "
    "--resource_provider PROVIDER' asks Nova's database about the rest",
    FindingKind.DOUBLE: "double: if 'openstack server migration list' shows no move in progress, 'openstack "
    "resource provider allocation unset --provider PROVIDER CONSUMER' removes the end that was left",
    FindingKind.REMOVED_NODE: "removed_node: report the node again if its host is alive, or evacuate its "
    "instances; --fix removes what the ledger proves",
}


class LastEvent(Struct, frozen=True):
    """The last event on the node that concerns a finding."""

    recorded_at: datetime | None
    sequence: int | None
    method: str | None
    outcome: str
    event_id: str
    request_id: str | None


class Line(Struct, frozen=True):
    """A finding as it is shown. `result` is None unless the audit fixes, or says what it would fix."""

    node: str
    finding: str
    consumer: str | None
    instance_uuid: str | None
    role: str | None
    ledger: Mapping[str, int] | None
    placement: Mapping[str, int] | None
    claimed_by: Sequence[str]
    providers: Sequence[str]
    last_event: LastEvent | None
    explanation: str
    result: str | None


class LeftOut(Struct, frozen=True):
    """A node that was not audited, and why."""

    node: str
    reason: str


class Document(Struct, frozen=True):
    """What an audit prints. `complete`: all nodes were audited, so that no finding means agreement."""

    complete: bool
    nodes: int
    findings: Sequence[Line]
    left_out: Sequence[LeftOut]
    resume_after: str | None


class _Progress:
    """What an audit has found so far, and why it ended early, if it did."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.done = 0
        self.compared: set[str] = set()
        self.found: list[Evidence] = []
        self.unreadable: dict[str, str] = {}
        self.problem: str | None = None
        self.exit_code = 0

    def add(self, audited: Audited, nodes: int) -> None:
        self.done += nodes
        self.compared |= audited.compared
        self.found += audited.found
        self.unreadable |= audited.unreadable
        if self.unreadable:
            self.exit_code = INCOMPLETE

    @property
    def is_complete(self) -> bool:
        """Whether all nodes were audited; what was to be fixed may be left all the same."""
        return self.done == len(self.names) and not self.unreadable

    @property
    def resume_after(self) -> str | None:
        """The last node that was audited, if others were not."""
        return self.names[self.done - 1] if 0 < self.done < len(self.names) else None

    def end(self, problem: str, exit_code: int) -> None:
        """End early. The text says how to go on."""
        go_on = "repeat the command"
        if self.resume_after is not None:
            go_on = f"'--after {self.resume_after}' audits the others"
        self.problem = f"{problem}; {self.done} of {len(self.names)} nodes were audited, {go_on}"
        self.exit_code = exit_code


def audit(conf: cfg.ConfigOpts, args: Any) -> int:
    """Compare claims with allocations, and remove what is left over.

    The exit code is 1 if a difference remains, INCOMPLETE if a node was not audited.
    """
    with engine_at_head(conf) as engine:
        names = _names(engine, args)
        api = _client(conf)
        progress = _Progress(names)
        _audit(conf, engine, api, progress)
        lines = _lines(conf, engine, api, progress, args)
    return _print(args, progress, lines)


def _lines(
    conf: cfg.ConfigOpts, engine: sa.Engine, api: PlacementApi, progress: _Progress, args: Any
) -> list[Line]:
    """Return the findings with what has become of them, or would."""
    found = progress.found
    if args.dry_run:
        results = {True: WOULD_BE_REMOVED, False: WOULD_BE_LEFT}
        return [_line(each, results[each.kept is None], each.kept) for each in found]
    if not args.fix:
        return [_line(each, None, each.kept) for each in found]
    if progress.problem is not None:
        return [_line(each, LEFT, each.kept or NOT_FIXED) for each in found]
    try:
        with reporting_database_errors(conf):
            removal = remove_left_over(engine, api, found, args.grace)
    except CommandFailed as error:  # The database is read before anything is removed.
        progress.problem = f"{error}; repeat the command, it has removed nothing"
        progress.exit_code = INCOMPLETE
        return [_line(each, LEFT, each.kept or NOT_FIXED) for each in found]
    if removal.interrupted:
        progress.problem = "interrupted: repeat the command, it removes what it has not removed yet"
        progress.exit_code = INTERRUPTED
    return [_line(each.evidence, REMOVED if each.kept is None else LEFT, each.kept) for each in removal.fixed]


def _client(conf: cfg.ConfigOpts) -> PlacementApi:
    """Return a client of the configured Placement. Raises CommandFailed."""
    try:
        return placement_client(conf)
    except ValueError as error:
        raise CommandFailed(str(error)) from None


def _names(engine: sa.Engine, args: Any) -> list[str]:
    """Return the nodes to audit in their order. Raises CommandFailed for one that was never recorded."""
    with snapshot_of(engine) as connection:
        names = claim_queries.recorded_nodes(connection)
        wanted = sorted(set(args.names)) or names
        for name in args.names:
            node = loaded(connection, name)
            if not node.known or (not node.tracked and node.conflicts):
                raise untracked(node)
    if args.after is None:
        return wanted
    if args.after not in names:
        raise CommandFailed(f"--after: no node is named '{args.after}'; 'node list' lists the tracked nodes")
    return [name for name in wanted if name > args.after]


def _audit(conf: cfg.ConfigOpts, engine: sa.Engine, api: PlacementApi, progress: _Progress) -> None:
    names = progress.names
    with progress_bar(len(names), "auditing", "nodes") as advance:
        show = converting_output_errors(advance)
        try:
            with reporting_database_errors(conf):
                for start in range(0, len(names), NODES_AT_ONCE):
                    some = names[start : start + NODES_AT_ONCE]
                    progress.add(audit_nodes(engine, api, some, show), len(some))
        except PlacementError as error:
            progress.end(f"{error.code}: {error}", INCOMPLETE)
        except CommandFailed as error:
            progress.end(str(error), INCOMPLETE)
        except KeyboardInterrupt:
            progress.end("interrupted", INTERRUPTED)


def _line(evidence: Evidence, result: str | None, kept: str | None) -> Line:
    finding = evidence.finding
    return Line(
        node=finding.node,
        finding=finding.kind.value,
        consumer=finding.consumer,
        instance_uuid=finding.instance_uuid,
        role=finding.role and finding.role.value,
        ledger=finding.ledger,
        placement=finding.placement,
        claimed_by=finding.nodes,
        providers=evidence.providers,
        last_event=_last_event(evidence.event),
        explanation=kept or PROVED,
        result=result,
    )


def _last_event(event: StoredEvent | None) -> LastEvent | None:
    if event is None:
        return None
    return LastEvent(**{name: getattr(event, name) for name in LastEvent.__struct_fields__})


def _print(args: Any, progress: _Progress, lines: Sequence[Line]) -> int:
    left = [line for line in lines if line.result != REMOVED]
    if args.format == TABLE:
        if lines:
            print_rows((*_COLUMNS, *_EVENT), map(_row, lines), "Findings", keep=_COLUMNS[:3])
    elif lines or progress.is_complete:
        # Otherwise a document without a finding could be taken for agreement.
        left_out = [LeftOut(name, why) for name, why in progress.unreadable.items()]
        complete, resume_after = progress.is_complete, progress.resume_after
        document = Document(complete, len(progress.compared), lines, left_out, resume_after)
        print_document(document, args.format)
    for text in _diagnostics(args, progress, lines, left):
        print_diagnostic(text)
    return progress.exit_code or (1 if left else 0)


def _diagnostics(
    args: Any, progress: _Progress, lines: Sequence[Line], left: Sequence[Line]
) -> Iterator[str]:
    kinds = {line.finding for line in left}
    yield from (text for kind, text in _WAYS_OUT.items() if kind.value in kinds)
    for name in sorted({line.node for line in left if not line.providers}):
        yield f"node '{name}': Placement has no provider of it: see 'placement status {name}'"
    for name, why in progress.unreadable.items():
        yield f"node '{name}' is left out: {why}"
    if progress.done == len(progress.names):
        named = {*args.names}.intersection(progress.names)
        for name in sorted(named - progress.compared - progress.unreadable.keys()):
            yield f"node '{name}' was removed, and Placement has no provider of it"
    if progress.done or progress.problem is None:
        yield _counts(progress, lines)
    if progress.problem is not None:
        yield progress.problem


def _counts(progress: _Progress, lines: Sequence[Line]) -> str:
    results = Counter(line.result for line in lines if line.result is not None)
    parts = ", ".join(f"{results[each]} {each}" for each in _RESULTS if each in results)
    so_far = "" if progress.done == len(progress.names) else " so far"
    findings = f"{len(lines)} ({parts})" if parts else str(len(lines))
    return f"findings: {findings}, nodes{so_far}: {len(progress.compared)}"


def _row(line: Line) -> list[Any]:
    event = line.last_event
    return [
        line.node,
        line.finding,
        line.consumer,
        _amounts(line.ledger),
        _amounts(line.placement),
        line.explanation,
        line.result,
        *(None if event is None else getattr(event, name) for name in _EVENT),
    ]


def _amounts(resources: Mapping[str, int] | None) -> str | None:
    return " ".join(f"{name}={amount}" for name, amount in sorted((resources or {}).items())) or None
