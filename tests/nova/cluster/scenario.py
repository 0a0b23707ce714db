# SPDX-License-Identifier: Apache-2.0
"""What becomes of the servers: all that a tracker counts, in an order that a seed gives."""

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.nova.cluster.cloud import HOSTS, VF_ALIAS, Cloud
from tests.nova.cluster.operations import Operations

T = TypeVar("T")
Json = dict[str, Any]

AT_ONCE = 6
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"
"""An image of Nova's Glance fixture."""

PLAIN, PINNED, DEVICES = "plain", "pinned", "devices"
SHARES = {PLAIN: 16, PINNED: 6, DEVICES: 3}
"""Of 25 servers."""

ZONE = {PLAIN: "fake", PINNED: "libvirt", DEVICES: "libvirt"}
_PIN = {"hw:cpu_policy": "dedicated"}
FLAVORS: dict[str, tuple[Json, Json]] = {
    PLAIN: (
        {"vcpu": 1, "memory_mb": 256, "disk": 1, "ephemeral": 0},
        {"vcpu": 2, "memory_mb": 384, "disk": 2, "ephemeral": 1},
    ),
    PINNED: (
        {"vcpu": 1, "memory_mb": 512, "disk": 1, "ephemeral": 0, "extra_spec": _PIN},
        {"vcpu": 2, "memory_mb": 768, "disk": 2, "ephemeral": 0, "extra_spec": _PIN},
    ),
    DEVICES: tuple(  # type: ignore[dict-item]
        {
            "vcpu": 1,
            "memory_mb": 256,
            "disk": 1,
            "ephemeral": 0,
            "extra_spec": {"pci_passthrough:alias": f"{VF_ALIAS}:{devices}"},
        }
        for devices in (1, 2)
    ),
}
"""The flavor at the boot, and that of a resize. Disk in GB."""


class Scenario:
    """Boots servers, moves them in every way, and leaves those that were not deleted."""

    def __init__(self, cloud: Cloud, servers: int, seed: int, tell: Callable[[Json], None]) -> None:
        self._cloud = cloud
        self._number = servers
        self._chance = random.Random(seed)
        self._operations = Operations(cloud.api, tell)
        self._kinds: dict[str, str] = {}
        self._flavors = {
            kind: [cloud._create_flavor(**flavor) for flavor in both] for kind, both in FLAVORS.items()
        }

    def run(self) -> None:
        """Do all of it, while the computes are audited."""
        with self._cloud.audited():
            servers = self._boot()
            self._resize(servers)
            self._live_migrate(servers)
            self._shelve(servers)
            servers = self._delete(servers)
            self._evacuate(servers)

    def _boot(self) -> list[Json]:
        kinds = [
            kind
            for kind, share in SHARES.items()
            for _ in range(self._number * share // sum(SHARES.values()))
        ]
        self._chance.shuffle(kinds)
        booted = []
        for batch in _batches(kinds):
            booted += self._operations.boot([self._request(kind) for kind in batch])
        self._kinds = {server["id"]: server["name"] for server in booted}
        return booted

    def _request(self, kind: str) -> Json:
        return {
            "name": kind,
            "imageRef": IMAGE,
            "flavorRef": self._flavors[kind][0],
            "networks": "none",
            "availability_zone": ZONE[kind],
        }

    def _some(self, servers: Sequence[Json], **numbers: int) -> list[list[Json]]:
        """Return so many servers of each kind, of 50, in batches."""
        chosen: list[Json] = []
        for kind, number in numbers.items():
            of_kind = [
                server
                for server in servers
                if self._kinds[server["id"]] == kind and server["id"] not in self._operations.failed
            ]
            share = -(-number * self._number // 50)
            chosen += self._chance.sample(of_kind, min(share, len(of_kind)))
        self._chance.shuffle(chosen)
        return _batches(chosen)

    def _resize(self, servers: Sequence[Json]) -> None:
        for batch in self._some(servers, plain=8, pinned=4, devices=2):
            larger = {server["id"]: self._flavors[self._kinds[server["id"]]][1] for server in batch}
            self._end(self._operations.resize(batch, larger))
        for batch in self._some(servers, plain=4, pinned=2, devices=2):
            self._end(self._operations.migrate(batch))

    def _end(self, resized: Sequence[Json]) -> None:
        """Confirm every other resize, and revert the rest."""
        self._operations.confirm(resized[::2])
        self._operations.revert(resized[1::2])

    def _live_migrate(self, servers: Sequence[Json]) -> None:
        for batch in self._some(servers, plain=6, pinned=4):
            self._operations.live_migrate(batch)

    def _shelve(self, servers: Sequence[Json]) -> None:
        for batch in self._some(servers, plain=5, pinned=3, devices=2):
            self._operations.unshelve(self._operations.shelve(batch))

    def _delete(self, servers: Sequence[Json]) -> list[Json]:
        deleted = set()
        for batch in self._some(servers, plain=5, pinned=3, devices=2):
            self._operations.delete(batch)
            deleted |= {server["id"] for server in batch}
        return [server for server in servers if server["id"] not in deleted]

    def _evacuate(self, servers: Sequence[Json]) -> None:
        for host in HOSTS:
            there = self._operations.on(servers, host)
            chosen = self._some(there, plain=4, pinned=2, devices=1)
            with self._cloud.away(host):
                for batch in chosen:
                    self._operations.evacuate(batch)


def _batches(things: Sequence[T]) -> list[list[T]]:
    return [list(things[first : first + AT_ONCE]) for first in range(0, len(things), AT_ONCE)]
