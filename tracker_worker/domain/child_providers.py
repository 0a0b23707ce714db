# SPDX-License-Identifier: Apache-2.0
"""The resource providers below a node, as a report has them. The comments `#: meaning [unit]` are the source
of doc/source/user/commands.rst.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from tracker_worker.domain.errors import InvalidValue
from tracker_worker.domain.fields import NAME, Name, Uuid

Inventories = dict[Name, dict[Name, int | float | None]]
Traits = Annotated[list[Name], Meta(max_length=4096)]
ProviderName = Annotated[str, Meta(max_length=200, pattern=NAME)]
"""Placement's bound."""


class ChildProvider(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A resource provider below a node, as a driver's update_provider_tree leaves it: a physical function, a
    type of vGPU, a NUMA cell.
    """

    #: name of the provider, unique in the whole cloud: Nova's drivers begin it with the node's name
    name: ProviderName
    inventories: Inventories  #: all inventories of the provider by resource class [Placement's units]
    traits: Traits  #: traits of the provider
    parent: ProviderName | None = None  #: name of another provider of the report; absent: the node
    #: aggregates of the provider, by uuid; absent: they are not changed
    aggregates: Annotated[list[Uuid], Meta(max_length=4096)] | None = None


ChildProviders = Annotated[list[ChildProvider], Meta(max_length=4096)]


def check_tree(providers: Sequence[ChildProvider]) -> None:
    """Raise InvalidValue unless names are unique, and all parents are in the list and lead to the node."""
    numbers: dict[str, int] = {}
    for number, provider in enumerate(providers):
        first = numbers.setdefault(provider.name, number)
        if first != number:
            raise InvalidValue(f"providers[{number}].name", f"providers[{first}] has the same name")
    for number, provider in enumerate(providers):
        if provider.parent is not None and provider.parent not in numbers:
            raise InvalidValue(
                f"providers[{number}].parent",
                "no provider of the report has this name; a child of the node has no parent",
            )
    _check_loops(providers, numbers)


def _check_loops(providers: Sequence[ChildProvider], numbers: Mapping[str, int]) -> None:
    below_the_node: set[int] = set()
    for number, provider in enumerate(providers):
        passed = {number}
        while provider.parent is not None:
            above = numbers[provider.parent]
            if above in below_the_node:
                break
            if above in passed:
                raise InvalidValue(f"providers[{above}].parent", "it is below the provider itself")
            passed.add(above)
            provider = providers[above]
        below_the_node.update(passed)
