# SPDX-License-Identifier: Apache-2.0
"""`node fit`: whether a claim would be granted, by the worker's own `decide`. Nothing is claimed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, astuple
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.every_node import selected
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    print_diagnostic,
    print_document,
    print_fields,
    print_rows,
)
from tracker_worker.cmd.manage.loading import untracked
from tracker_worker.cmd.manage.session import settings_of
from tracker_worker.domain.commands import InstanceClaim
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.fit import ClaimTest, claim_tests
from tracker_worker.domain.flavors import MB_PER_GB, Amounts, Flavor
from tracker_worker.domain.node import Node, evolve, sum_fault
from tracker_worker.domain.objects import Instance, Limits
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.service import new_id

T = TypeVar("T")
_UNTESTED = "memory, disk and vcpus are tested only against --limits: [tracker] capacity_check is limits"


class Fit(Struct, frozen=True):
    """Whether a node would grant a claim, and what would be left of total * ratio after it, disk in MB."""

    node: str
    outcome: str
    vcpus_left: int
    memory_mb_left: int
    disk_mb_left: int
    reason: str | None


class Request(Struct, frozen=True):
    """The claim that is asked about, and the settings that the worker decides it by."""

    instance: Instance
    limits: Limits | None
    settings: TrackerSettings

    def claim(self, node: Node) -> InstanceClaim:
        """Return the claim on a node."""
        return InstanceClaim(node=node.name, instance=self.instance, limits=self.limits)


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show whether a claim would be granted by a node, test by test, or rank all nodes."""
    request = _request(args, settings_of(conf).tracker)
    if request.limits is None and request.settings.capacity_check == "limits":
        print_diagnostic(_UNTESTED)
    nodes = _nodes(conf, args)
    return _rank(args, request, nodes) if args.all_nodes else _explain(args, request, next(nodes))


def _nodes(conf: cfg.ConfigOpts, args: Any) -> Iterator[Node]:
    for nodes, unreadable in selected(conf, args.name_of_node, "fitting"):
        for name, why in unreadable.items():
            _leave_out(args, name, why)
        for node in nodes.values():
            if not node.tracked:
                if not args.all_nodes:  # With --all it was removed meanwhile.
                    raise untracked(node)
            elif fault := sum_fault(node):
                why = f"it is broken, its events are held: {fault}; see 'node rebuild'"
                _leave_out(args, node.name, why)
            else:
                yield node


def _leave_out(args: Any, name: str, why: str) -> None:
    if not args.all_nodes:
        raise CommandFailed(f"node {name}: {why}")
    print_diagnostic(f"node '{name}' is left out: {why}")


def _explain(args: Any, request: Request, node: Node) -> int:
    _, fit = _fit(request, node)
    tests = list(claim_tests(node, request.claim(node), request.settings))
    if args.format != TABLE:
        print_document({**asdict(fit), "tests": tests}, args.format)
    else:
        left = f"{fit.vcpus_left} vcpus, {fit.memory_mb_left} MB, {fit.disk_mb_left} MB disk"
        decision = {"outcome": fit.outcome, "reason": fit.reason, "left": left}
        print_fields(decision, f"Claim on node {node.name}")
        print_rows(ClaimTest.__struct_fields__, map(_row, tests), "Tests")
    return _exit_code(fit)


def _row(test: ClaimTest) -> list[Any]:
    passed = "not tested" if test.passed is None else test.passed
    return [test.rule, test.subject, test.requested, test.free, passed, test.reason]


def _rank(args: Any, request: Request, nodes: Iterator[Node]) -> int:
    ranked = sorted((_fit(request, node) for node in nodes), key=lambda each: (_exit_code(each[1]), -each[0]))
    found = [fit for _, fit in ranked[: args.limit]]
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        print_rows(Fit.__struct_fields__, map(astuple, found), "Nodes, those with most left first")
    granting = sum(fit.outcome == Outcome.GRANTED for _, fit in ranked)
    print_diagnostic(f"{granting} of {len(ranked)} nodes would grant the claim, {len(found)} are shown")
    return 0 if granting else 1


def _fit(request: Request, node: Node) -> tuple[float, Fit]:
    """Return the decision on a node, and the smallest share of a resource that would be left."""
    decision = decide(node, request.claim(node), request.settings, {})
    after = evolve(node, decision.changes)
    limit = _limit(after)
    left = limit.minus(after.used)
    shares = (free / most for free, most in zip(astuple(left), astuple(limit), strict=True) if most)
    fit = Fit(
        node=node.name,
        outcome=decision.outcome.value,
        vcpus_left=left.vcpus,
        memory_mb_left=left.memory_mb,
        disk_mb_left=left.disk_mb,
        reason=decision.reason,
    )
    return min(shares, default=0.0), fit


def _limit(node: Node) -> Amounts:
    report, ratios = node.resources, node.ratios
    assert report is not None
    return Amounts(
        int(report.vcpus * ratios.cpu),
        int(report.memory_mb * ratios.ram),
        int(report.local_gb * MB_PER_GB * ratios.disk),
    )


def _exit_code(fit: Fit) -> int:
    return 0 if fit.outcome == Outcome.GRANTED else 1


def _request(args: Any, settings: TrackerSettings) -> Request:
    limits = None if args.limits is None else _read(args.limits, Limits, "--limits")
    if args.instance is not None:
        return Request(_read(args.instance, Instance, "--instance"), limits, settings)
    flavor = _read(args.flavor, Flavor, "--flavor")
    new = Instance(uuid=new_id(), project_id="fit", vm_state="building", flavor=flavor)
    return Request(new, limits, settings)


def _read(text: str, wanted: type[T], option: str) -> T:
    """Return an object of a command from JSON, or from a file with JSON. Raises CommandFailed."""
    try:
        document = text if text.lstrip().startswith("{") else Path(text).read_text()
        return msgspec.json.decode(document, type=wanted)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandFailed(f"{option} {text[:80]}: {what}") from None
