# SPDX-License-Identifier: Apache-2.0
"""The findings of an audit: the nodes of the database, compared with the allocations in Placement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.cmd.manage.every_node import load_readable
from tracker_worker.cmd.manage.session import snapshot_of
from tracker_worker.core.history import StoredEvent
from tracker_worker.db import claim_queries, receipt_queries, store
from tracker_worker.domain.claim_places import ClaimPlace
from tracker_worker.domain.node import Node
from tracker_worker.placement.api import PlacementApi
from tracker_worker.placement.audit import Finding, Held, compare, questions
from tracker_worker.placement.errors import ProviderNotFound
from tracker_worker.placement.evidence import last_events, subject_of, why_kept
from tracker_worker.placement.provider import uuid_of
from tracker_worker.placement.sizes import CLASSES, DISK

MOST_EVENTS = 10_000
"""A consumer that no receipt names would have all receipts of its node read."""
_UNLESS_DISK = tuple(name for name in CLASSES if name != DISK)


class Evidence(Struct, frozen=True):
    """A finding, the providers of its node, the last event that concerns it, and why it is kept, if it is."""

    finding: Finding
    providers: tuple[str, ...]
    event: StoredEvent | None
    kept: str | None


class Audited(Struct, frozen=True):
    """What an audit of some nodes has found. `compared` are the tracked nodes, and the removed ones that have
    a provider still; `unreadable` those that were left out, with reasons.
    """

    found: list[Evidence]
    compared: frozenset[str]
    unreadable: Mapping[str, str]


class _Look(Struct, frozen=True):
    tracked: bool
    held: Held
    findings: list[Finding]


def audit_nodes(
    engine: sa.Engine, api: PlacementApi, names: Sequence[str], advance: Callable[[int], None]
) -> Audited:
    """Compare nodes with Placement. `advance` is called for each node with the number 1.

    Database and Placement are not read at one time. Nodes with findings are therefore read a second time, and
    only what is found twice is returned. Raises PlacementError.
    """
    first, unreadable = _look(engine, api, names, advance)
    again = [name for name in names if name in first and first[name].findings]
    second, broken_since = _look(engine, api, again, lambda _: None)
    found = []
    for name, look in second.items():
        confirmed = [each for each in look.findings if each in first[name].findings]
        if confirmed:
            found += _explained(engine, name, look.held, confirmed)
    compared = frozenset(name for name, look in first.items() if look.tracked or look.held.providers)
    return Audited(found, compared - broken_since.keys(), {**unreadable, **broken_since})


def _look(
    engine: sa.Engine, api: PlacementApi, names: Sequence[str], advance: Callable[[int], None]
) -> tuple[dict[str, _Look], dict[str, str]]:
    """Compare nodes once; return what was found by name, and why others cannot be read."""
    with snapshot_of(engine) as connection:
        nodes, unreadable = load_readable(connection, names)
    held: dict[str, Held] = {}
    for name, node in nodes.items():
        if node.tracked or not node.conflicts:
            held[name] = _held(engine, api, node)
        advance(1)
    asked = {name: questions(nodes[name], each) for name, each in held.items()}
    with snapshot_of(engine) as connection:
        places = _by_uuid(claim_queries.places(connection, set().union(*asked.values())))
    looks = {}
    for name, each in held.items():
        own = dict.fromkeys(place for uuid in sorted(asked[name]) for place in places.get(uuid, ()))
        looks[name] = _Look(nodes[name].tracked, each, compare(nodes[name], each, own))
    return looks, unreadable


def _by_uuid(places: Iterable[ClaimPlace]) -> dict[str, list[ClaimPlace]]:
    """Return claims by their instances, and by their migrations."""
    found: dict[str, list[ClaimPlace]] = {}
    for place in places:
        for uuid in (place.instance_uuid, place.migration_uuid):
            if uuid is not None:
                found.setdefault(uuid, []).append(place)
    return found


def _held(engine: sa.Engine, api: PlacementApi, node: Node) -> Held:
    """Return what consumers hold of the tree of a node, that of a removed node being found by its name."""
    if node.resources is not None:
        root = uuid_of(node.resources)
    elif (row := api.named(node.name)) is None or _is_tracked(engine, row.uuid):
        return Held((), {})
    else:
        root = row.uuid
    providers = tuple(row.uuid for row in api.tree(root))
    consumers: dict[str, dict[str, int]] = {}
    for provider in providers:
        try:
            allocations = api.allocations_of(provider)
        except ProviderNotFound:  # It was deleted meanwhile, which needs that nothing is allocated.
            continue
        for allocation in allocations:
            held = consumers.setdefault(allocation.consumer, {})
            for name, amount in allocation.resources.items():
                held[name] = held.get(name, 0) + amount
    return Held(providers, consumers, _compared(api, providers, consumers.values()))


def _is_tracked(engine: sa.Engine, uuid: str) -> bool:
    """Tell whether a provider is that of a node which got another name."""
    with snapshot_of(engine) as connection:
        return bool(store.uuid_owners(connection, [uuid]))


def _compared(
    api: PlacementApi, providers: Iterable[str], held: Iterable[Mapping[str, int]]
) -> tuple[str, ...]:
    """Return the classes to compare; a request a provider only if a consumer holds no disk."""
    if all(DISK in each for each in held) or any(_has_disk(api, provider) for provider in providers):
        return CLASSES
    return _UNLESS_DISK


def _has_disk(api: PlacementApi, provider: str) -> bool:
    try:
        return DISK in api.inventories(provider)[1]
    except ProviderNotFound:
        return False


def _explained(engine: sa.Engine, name: str, held: Held, findings: Sequence[Finding]) -> list[Evidence]:
    """Return the findings of a node with the last events that concern them."""
    wanted = {uuid for finding in findings if (uuid := subject_of(finding)) is not None}
    with snapshot_of(engine) as connection:
        events = merge(
            receipt_queries.sequenced(connection, name),
            receipt_queries.unsequenced(connection, name),
            key=lambda event: event.recorded_at or datetime.max,
            reverse=True,
        )
        last = last_events(islice(events, MOST_EVENTS), wanted)
    explained = []
    for finding in findings:
        event = last.get(subject_of(finding) or "")
        explained.append(Evidence(finding, held.providers, event, why_kept(finding, event)))
    return explained
