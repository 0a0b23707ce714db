# SPDX-License-Identifier: Apache-2.0
"""Which known provider is which desired one, and how the known ones hang together. Pure."""

from collections.abc import Collection, Iterable, Mapping

from tracker_worker.placement.records import KnownProvider, Provider


def matched(desired: Iterable[Provider], known: Iterable[KnownProvider]) -> dict[str, KnownProvider]:
    """Return the known provider of each desired one that has one, by the uuid of the desired one.

    They have the same uuid, or, below the node's own, the same name: then somebody else created it.
    """
    providers = tuple(desired)
    by_uuid = {each.uuid: each for each in known}
    found = {each.uuid: by_uuid[each.uuid] for each in providers if each.uuid in by_uuid}
    if not providers:
        return found
    root = providers[0].uuid
    others = {
        each.name: each
        for uuid, each in by_uuid.items()
        if uuid not in found and root_of(each, by_uuid) == root
    }
    below = (each for each in providers if each.uuid not in found and each.parent is not None)
    return found | {each.uuid: others[each.name] for each in below if each.name in others}


def roots_of(known: Iterable[KnownProvider]) -> set[str]:
    """Return the uuids of the highest providers above all of these, known or not."""
    by_uuid = {each.uuid: each for each in known}
    above = {uuid if each.parent is None else each.parent for uuid, each in by_uuid.items()}
    return {uuid for uuid in above if uuid not in by_uuid or by_uuid[uuid].parent is None}


def without_trees(known: Iterable[KnownProvider], roots: Collection[str]) -> tuple[KnownProvider, ...]:
    """Return the providers that are in none of these trees."""
    by_uuid = {each.uuid: each for each in known}
    return tuple(each for each in by_uuid.values() if root_of(each, by_uuid) not in roots)


def root_of(known: KnownProvider, by_uuid: Mapping[str, KnownProvider]) -> str:
    """Return the uuid of the highest provider above one, or of itself."""
    return lineage(known, by_uuid)[-1]


def lineage(known: KnownProvider, by_uuid: Mapping[str, KnownProvider]) -> list[str]:
    """Return the uuids of a provider and of those above it. The highest may be one that is not known."""
    found = [known.uuid]
    while known.parent is not None and known.parent not in found:
        found.append(known.parent)
        if known.parent not in by_uuid:
            break
        known = by_uuid[known.parent]
    return found


def deepest_first(known: Iterable[KnownProvider]) -> list[KnownProvider]:
    """Return children before their parents."""
    by_uuid = {each.uuid: each for each in known}
    return sorted(by_uuid.values(), key=lambda each: (-len(lineage(each, by_uuid)), each.name))
