# SPDX-License-Identifier: Apache-2.0
"""Resource providers: as they shall be, and as Placement showed them last. Pure values."""

from collections.abc import Mapping

from msgspec import Struct

MAX_UNIT = 2**31 - 1
"""Placement's largest integer, and its default for `max_unit`."""


UNREAD = -1
"""The generation of a provider of which nothing was read yet: it may exist or not."""


class Inventory(Struct, frozen=True, omit_defaults=True):
    """The inventory of one resource class, with Placement's defaults; `total` is at least 1."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MAX_UNIT
    step_size: int = 1
    allocation_ratio: float = 1.0


class Provider(Struct, frozen=True):
    """A resource provider as it shall be. `parent` is the uuid of its parent, None for the node's own.

    `aggregates` are uuids; None: they are not ours, and stay as they are.
    """

    uuid: str
    name: str
    parent: str | None
    inventories: Mapping[str, Inventory]
    traits: frozenset[str]
    aggregates: frozenset[str] | None = None


class KnownProvider(Struct, frozen=True, omit_defaults=True):
    """A resource provider as Placement showed it last, at `generation`.

    `traits` are all that it has; `own_traits` those of them that this service has set, the only ones that it
    may take away. `kept` are the resource classes that were to go and have allocations: they stay, all of
    them reserved. `foreign` counts the refreshes in a row that found other contents than were last written.
    `undeleted`: the provider was to go and has allocations, or children of others: it stays, all reserved.
    `in_doubt`: a request was about to be sent whose result is not known here, so that the contents are read
    before the next. The contents are those at `generation` or newer ones: a write that this generation allows
    overwrites nothing that was not read.
    """

    uuid: str
    name: str
    generation: int
    parent: str | None = None
    inventories: Mapping[str, Inventory] = {}
    traits: frozenset[str] = frozenset()
    own_traits: frozenset[str] = frozenset()
    aggregates: frozenset[str] | None = None
    kept: frozenset[str] = frozenset()
    foreign: int = 0
    undeleted: bool = False
    in_doubt: bool = False


class Allocation(Struct, frozen=True):
    """What a consumer holds of one provider, by resource class."""

    consumer: str
    resources: Mapping[str, int]


class ConsumerAllocations(Struct, frozen=True):
    """All that a consumer holds, by provider and resource class. `generation` is the consumer's."""

    consumer: str
    generation: int
    project_id: str
    user_id: str
    consumer_type: str
    providers: Mapping[str, Mapping[str, int]]
