# SPDX-License-Identifier: Apache-2.0
"""Removal of the allocations that the ledger proves to be left over.

A scheduler allocates before the claim comes: what is left over by all that is known may be the allocation of
an instance that returns. So the generations of the consumers are read first, and the nodes are audited again
after a grace period. A consumer that was changed since then keeps its allocations, by its generation.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.cmd.manage.formatting import converting_output_errors
from tracker_worker.cmd.manage.placement_findings import Evidence, audit_nodes
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.errors import GenerationConflict, PlacementError
from tracker_worker.placement.records import ConsumerAllocations

CHANGED = "the node or the allocation has changed since: repeat the command"
NOT_KNOWN = "interrupted before it was known to be removed: repeat the command"


class Fixed(Struct, frozen=True):
    """A finding whose allocation was removed, or is kept because of `kept`."""

    evidence: Evidence
    kept: str | None


class Removal(Struct, frozen=True):
    """What became of all findings, and whether the user has interrupted the removal."""

    fixed: list[Fixed]
    interrupted: bool


def remove_left_over(engine: sa.Engine, api: PlacementApi, found: Sequence[Evidence], grace: int) -> Removal:
    """Remove the allocations that are proved to be left over, after `grace` seconds.

    An error of Placement keeps what the request was about. Ctrl-C ends the removal.
    """
    proved: dict[str, list[Evidence]] = {}
    for evidence in found:
        if evidence.kept is None and evidence.finding.consumer is not None:
            proved.setdefault(evidence.finding.consumer, []).append(evidence)
    kept: dict[str, str | None] = dict.fromkeys(proved, NOT_KNOWN)
    interrupted = False
    try:
        _remove(engine, api, proved, grace, kept)
    except KeyboardInterrupt:
        interrupted = True
    fixed = [Fixed(each, each.kept or kept.get(each.finding.consumer or "")) for each in found]
    return Removal(fixed, interrupted)


def _remove(
    engine: sa.Engine,
    api: PlacementApi,
    proved: Mapping[str, list[Evidence]],
    grace: int,
    kept: dict[str, str | None],
) -> None:
    """Write into `kept`, for each consumer, why its allocations are kept; None once they are removed."""
    if not proved:
        return
    try:
        before = {consumer: api.consumer_allocations(consumer) for consumer in proved}
        _wait(grace)
        nodes = {each.finding.node for evidence in proved.values() for each in evidence}
        again = audit_nodes(engine, api, sorted(nodes), lambda _: None).found
    except PlacementError as error:
        kept.update(dict.fromkeys(proved, f"{error.code}: {error}"))
        return
    for consumer, evidence in proved.items():
        is_left_over = all(each in again for each in evidence)
        kept[consumer] = _remove_of(api, before[consumer], evidence) if is_left_over else CHANGED


def _remove_of(
    api: PlacementApi, before: ConsumerAllocations | None, evidence: Iterable[Evidence]
) -> str | None:
    """Remove what a consumer holds of nodes; return why it is kept, None if it was removed."""
    if before is None:
        return CHANGED
    left_over = {provider for each in evidence for provider in each.providers}
    providers = {uuid: held for uuid, held in before.providers.items() if uuid not in left_over}
    try:
        api.put_allocations(replace(before, providers=providers))
    except GenerationConflict:
        return CHANGED
    except PlacementError as error:
        return f"{error.code}: {error}"
    return None


def _wait(seconds: int) -> None:
    with progress_bar(seconds, "waiting for claims that are on their way", "s") as advance:
        show = converting_output_errors(advance)
        for _ in range(seconds):
            time.sleep(1)
            show(1)
