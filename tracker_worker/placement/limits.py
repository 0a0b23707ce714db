# SPDX-License-Identifier: Apache-2.0
"""What Placement takes in names and inventories, from its own schemas (API 1.39). Pure.

A function returns why Placement would refuse a value, None if it takes it. Whether a standard class or trait
exists depends on Placement's version: it says so itself.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from tracker_worker.placement.records import MAX_UNIT, Inventory

CUSTOM = "CUSTOM_"
NAME_LENGTH = 200
_MOST_RATIO = 3.40282e38
"""The largest float of single precision in SQL."""
_NAME = re.compile(rf"(?!{CUSTOM}\Z)[A-Z0-9_]{{1,255}}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LEAST = {"total": 1, "reserved": 0, "min_unit": 1, "max_unit": 1, "step_size": 1}


class Fault(Struct, frozen=True):
    """A field of an inventory that Placement would refuse, and why."""

    field: str
    reason: str


def symbol_fault(name: str) -> str | None:
    """Return what is wrong with the name of a resource class or a trait."""
    if _NAME.fullmatch(name):
        return None
    return "names of resource classes and traits have 1 to 255 of A-Z, 0-9 and _, after CUSTOM_ too"


def uuid_fault(text: str) -> str | None:
    """Return what is wrong with a uuid."""
    return None if _UUID.fullmatch(text) else f"{text!r} is not a uuid"


def provider_name_fault(name: str) -> str | None:
    """Return what is wrong with the name of a provider."""
    if 0 < len(name) <= NAME_LENGTH:
        return None
    return f"the name of a provider has 1 to {NAME_LENGTH} characters, this one {len(name)}"


def inventory_fault(inventory: Inventory) -> Fault | None:
    """Return what is wrong with an inventory."""
    for field, least in _LEAST.items():
        value = getattr(inventory, field)
        if not least <= value <= MAX_UNIT:
            return Fault(field, f"{value} is not within {least} to {MAX_UNIT}")
    if not 0 <= inventory.allocation_ratio <= _MOST_RATIO:
        return Fault("allocation_ratio", f"{inventory.allocation_ratio} is not within 0 to {_MOST_RATIO}")
    if inventory.reserved > inventory.total:
        return Fault("reserved", f"{inventory.reserved} is more than the total, {inventory.total}")
    return None


def unknown_field(inventory: Mapping[str, object]) -> Fault | None:
    """Return the first field that an inventory of Placement does not have."""
    for field in inventory:
        if field not in Inventory.__struct_fields__:
            return Fault(field, f"an inventory has {', '.join(Inventory.__struct_fields__)} only")
    return None
