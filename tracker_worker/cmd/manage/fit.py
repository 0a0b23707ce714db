# SPDX-License-Identifier: Apache-2.0
"""`node fit`: whether a claim would be granted, by the worker's own `decide`. Nothing is claimed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, astuple, replace
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
from tracker_worker.cmd.manage.loading import print_faults, untracked
from tracker_worker.cmd.manage.node_arguments import FLAVOR
from tracker_worker.cmd.manage.session import settings_of
from tracker_worker.domain.commands import InstanceClaim
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Decision, Outcome
from tracker_worker.domain.fit import ClaimTest, claim_tests
from tracker_worker.domain.flavors import MB_PER_GB, Amounts, Flavor
from tracker_worker.domain.node import Node, evolve, sum_fault
from tracker_worker.domain.objects import Instance, Limits
from tracker_worker.domain.report import excess_reserves
from tracker_worker.domain.settings import CapacityCheck, TrackerSettings
from tracker_worker.worker.service import new_id

T = TypeVar("T", bound=Struct)
_COLUMNS = ("node", "outcome", "vcpus_left", "memory_mb_left", "disk_mb_left", "flags", "reason")
_DISABLED = "The compute service is disabled: Nova's scheduler does not choose the node"
_AS_SCHEDULER = "capacity; no limits were given: Nova's scheduler decides, by (total - reserved) * ratio"
_AS_WORKER: dict[CapacityCheck, str] = {
    "limits": "limits",
    "capacity": "limits and capacity",
    "none": "nothing",
}

_WORDS_OF_OPENSTACK = {
    "ram": "memory_mb",
    "disk": "root_gb",
    "ephemeral": "ephemeral_gb",
    "swap": "swap_mb",
}
"""The keys of a flavor by the words of `openstack flavor create`."""


class Fit(Struct, frozen=True):
    """Whether a node would grant a claim, and what would be left of (total - reserved) * ratio, disk in MB.

    `disabled` is its compute service; `conflicts` are the uuids whose reports under its name were refused;
    `reserve_too_large` has each part of its reserve that exceeds it. `limits` are those that were given.
    `tested_against` says what memory, disk and vcpus are tested against.
    """

    node: str
    outcome: str
    vcpus_left: int
    memory_mb_left: int
    disk_mb_left: int
    reason: str | None
    disabled: bool
    conflicts: list[str]
    reserve_too_large: list[str]
    limits: Limits | None
    tested_against: str

    @property
    def flags(self) -> list[str]:
        """What is wrong with the node, in the words of `node list`."""
        flags = {
            "disabled": self.disabled,
            "conflict": bool(self.conflicts),
            "reserve": bool(self.reserve_too_large),
        }
        return [name for name, is_set in flags.items() if is_set]


class Request(Struct, frozen=True):
    """The claim that is asked about, and the settings that decide it: those of the worker.

    Nova asks no worker before its scheduler has chosen the node. So a request without limits is tested
    against the capacity, as Placement computes it, whatever the worker would test, and a node whose compute
    service is disabled refuses it.
    """

    instance: Instance
    limits: Limits | None
    settings: TrackerSettings

    def decide(self, node: Node) -> Decision:
        """Return the decision on a node."""
        decision = decide(node, self.claim(node), self.settings, {})
        if self.limits is not None or not node.disabled:
            return decision
        reason = "; ".join(filter(None, (_DISABLED, decision.reason)))
        return Decision(Outcome.REFUSED, reason=reason)

    def claim(self, node: Node) -> InstanceClaim:
        """Return the claim on a node."""
        return InstanceClaim(node=node.name, instance=self.instance, limits=self.limits)

    @property
    def tested_against(self) -> str:
        """What memory, disk and vcpus are tested against."""
        return "capacity" if self.limits is None else _AS_WORKER[self.settings.capacity_check]

    @property
    def tested_against_text(self) -> str:
        """The same for people."""
        return _AS_SCHEDULER if self.limits is None else self.tested_against


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show whether a claim would be granted by a node, test by test, or rank all nodes."""
    request = _request(args, settings_of(conf).tracker)
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
        decision = {"outcome": fit.outcome, "reason": fit.reason, "flags": fit.flags, "left": left}
        decision["tested against"] = request.tested_against_text
        print_fields(decision, f"Claim on node {node.name}")
        print_rows(ClaimTest.__struct_fields__, map(_row, tests), "Tests")
    print_faults(node)
    return _exit_code(fit)


def _row(test: ClaimTest) -> list[Any]:
    passed = "not tested" if test.passed is None else test.passed
    return [test.rule, test.subject, test.requested, test.free, passed, test.reason]


def _rank(args: Any, request: Request, nodes: Iterator[Node]) -> int:
    ranked = sorted((_fit(request, node) for node in nodes), key=_rank_of)
    found = [fit for _, fit in ranked[: args.limit]]
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        rows = ([getattr(fit, name) for name in _COLUMNS] for fit in found)
        title = f"Nodes, those with most left first (tested against {request.tested_against_text})"
        print_rows(_COLUMNS, rows, title)
    granting = sum(fit.outcome == Outcome.GRANTED for _, fit in ranked)
    print_diagnostic(f"{granting} of {len(ranked)} nodes would grant the claim, {len(found)} are shown")
    return 0 if granting else 1


def _rank_of(found: tuple[float, Fit]) -> tuple[int, bool, float]:
    """Return the key that sorts nodes that would grant the claim first, of these those without flags."""
    share, fit = found
    return _exit_code(fit), bool(fit.flags), -share


def _fit(request: Request, node: Node) -> tuple[float, Fit]:
    """Return the decision on a node, and the smallest share of a resource that would be left."""
    decision = request.decide(node)
    after = evolve(node, decision.changes)
    capacity = _capacity(after)
    left = capacity.minus(after.claimed)
    # The capacity is negative where the reserve exceeds the size.
    shares = (free / abs(most) for free, most in zip(astuple(left), astuple(capacity), strict=True) if most)
    fit = Fit(
        node=node.name,
        outcome=decision.outcome.value,
        vcpus_left=left.vcpus,
        memory_mb_left=left.memory_mb,
        disk_mb_left=left.disk_mb,
        reason=decision.reason,
        disabled=node.disabled,
        conflicts=list(node.conflicts),
        reserve_too_large=list(excess_reserves(node.resources, node.reserve).values()),
        limits=request.limits,
        tested_against=request.tested_against,
    )
    return min(shares, default=0.0), fit


def _capacity(node: Node) -> Amounts:
    """Return what claims may hold in all, as Placement computes it."""
    report, reserve, ratios = node.resources, node.reserve, node.ratios
    assert report is not None
    return Amounts(
        int((report.vcpus - reserve.vcpus) * ratios.cpu),
        int((report.memory_mb - reserve.memory_mb) * ratios.ram),
        int((report.local_gb * MB_PER_GB - reserve.disk_mb) * ratios.disk),
    )


def _exit_code(fit: Fit) -> int:
    return 0 if fit.outcome == Outcome.GRANTED else 1


def _request(args: Any, settings: TrackerSettings) -> Request:
    limits = None if args.limits is None else _read(args.limits, Limits, "--limits")
    if limits is None:
        settings = replace(settings, capacity_check="capacity")
    if args.instance is not None:
        return Request(_read(args.instance, Instance, "--instance"), limits, settings)
    flavor = _read(args.flavor, Flavor, "--flavor")
    new = Instance(uuid=new_id(), project_id="fit", vm_state="building", flavor=flavor)
    return Request(new, limits, settings)


def _read(text: str, wanted: type[T], option: str) -> T:
    """Return an object of a command from JSON, or from a file with JSON. Raises CommandFailed."""
    document = ""
    try:
        document = text if text.lstrip().startswith("{") else Path(text).read_text()
        return msgspec.json.decode(document, type=wanted)
    except OSError as error:
        what = f"a file with JSON, or JSON itself, is expected: {error.strerror}"
    except ValueError as error:
        what = _faults(str(error), document, wanted)
    is_flavor = wanted is Flavor or "$.flavor" in what or "flavor." in what
    keys = ", ".join(Flavor.__struct_fields__ if is_flavor else wanted.__struct_fields__)
    example = f", as in '{FLAVOR}'" if is_flavor else ""
    raise CommandFailed(f"{option} {text[:80]}: {what}; the keys are {keys}{example}")


def _faults(error: str, document: str, wanted: type[Struct]) -> str:
    """Return the decoder's error, which names one fault, with all missing keys and the right words."""
    try:
        found = msgspec.json.decode(document)
    except ValueError:
        return error
    if not isinstance(found, dict):
        return error
    missing = list(_missing(found, wanted, ""))
    faults = [] if missing and error.startswith("Object missing required field") else [error]
    if missing:
        faults.append(f"missing: {', '.join(missing)}")
    flavor = found if wanted is Flavor else found.get("flavor")
    if isinstance(flavor, dict) and (words := [word for word in _WORDS_OF_OPENSTACK if word in flavor]):
        faults.append(", ".join(f"{word} is {_WORDS_OF_OPENSTACK[word]}" for word in words))
    return "; ".join(faults)


def _missing(found: dict[str, Any], wanted: type[Struct], prefix: str) -> Iterator[str]:
    """Return the keys that an object lacks, those of its flavor included."""
    for field in msgspec.structs.fields(wanted):
        if field.required and field.encode_name not in found:
            yield prefix + field.encode_name
        elif field.type is Flavor and isinstance(inner := found[field.encode_name], dict):
            yield from _missing(inner, Flavor, f"{field.encode_name}.")
