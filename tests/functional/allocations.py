# SPDX-License-Identifier: Apache-2.0
"""What the tests of the audit have in the Placement in memory: providers, allocations, events between."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.fake_placement import FakePlacement, NoFaults
from tracker_worker.placement.records import Inventory

ROOM = Inventory(1_000_000)
WHOLE = ("VCPU", "MEMORY_MB", "DISK_GB")


class Before(NoFaults):
    """Calls a function before each request, with the request's name."""

    def __init__(self, placement: FakePlacement, act: Callable[[str], None]) -> None:
        self._placement = placement
        self._act = act

    def before(self) -> None:
        self._act(methods_of(self._placement)[-1])


def methods_of(placement: FakePlacement) -> list[str]:
    """The names of the requests so far."""
    return [request.partition(" ")[0] for request in placement.requests]


def add_provider(
    placement: FakePlacement,
    uuid: str,
    name: str,
    parent: str | None = None,
    classes: Iterable[str] = WHOLE,
) -> None:
    """Add a provider with room for all that a test allocates."""
    with placement.others():
        placement.create(uuid, name, parent)
        placement.put_inventories(uuid, 0, dict.fromkeys(classes, ROOM))


def allocate(placement: FakePlacement, consumer: str, provider: str, resources: Mapping[str, int]) -> None:
    """Allocate for a consumer, besides what it holds of other providers."""
    placement.allocate(consumer, {**held(placement, consumer), provider: resources})


def held(placement: FakePlacement, consumer: str) -> Mapping[str, Mapping[str, int]]:
    """What a consumer holds, by provider."""
    return placement.consumers[consumer].providers if consumer in placement.consumers else {}


def kinds_of(findings: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The kind of each finding of a document, by consumer."""
    return {each["consumer"]: each["finding"] for each in findings}
