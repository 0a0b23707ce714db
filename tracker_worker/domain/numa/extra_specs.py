# SPDX-License-Identifier: Apache-2.0
"""How extra specs and image properties are read: the two of a setting, one of a few values, sets of CPUs.

Nothing here trusts a text: what it may cost is bounded, and it raises RequestRefused or nothing.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.extra_specs import bool_from_string, truncated
from tracker_worker.domain.flavors import Flavor

CPU_NUMBER_END = 65_536
GUEST_CPUS_MAX = 4_096
"""The largest guest with a topology: each of its cells is a CpuSet, and no hypervisor has larger ones."""

Choice = TypeVar("Choice", bound=StrEnum)


def asked(flavor: Flavor, image_properties: Mapping[str, str], name: str) -> tuple[str | None, str | None]:
    """Return what the flavor (hw:name) and the image (hw_name) say; None for an absent or empty text."""
    return flavor.extra_specs.get(f"hw:{name}") or None, image_properties.get(f"hw_{name}") or None


def one_of(text: str | None, choices: type[Choice], what: str) -> Choice | None:
    """Return the choice that a text names, None for none; refuse any other, in Nova's words."""
    if text is None:
        return None
    try:
        return choices(text)
    except ValueError:
        available = tuple(choice.value for choice in choices)
        raise RequestRefused(
            f"{what} is invalid, given: '{truncated(text)}', available: '{available}'."
        ) from None


def guest_cpus(flavor: Flavor) -> frozenset[int]:
    """Return the numbers of the guest's CPUs; refuse a guest larger than GUEST_CPUS_MAX."""
    if flavor.vcpus > GUEST_CPUS_MAX:
        raise RequestRefused(
            f"A NUMA topology of {flavor.vcpus} vCPUs is too large: it has at most {GUEST_CPUS_MAX}"
        )
    return frozenset(range(flavor.vcpus))


def dedicated_mask(flavor: Flavor) -> frozenset[int]:
    """Return the CPUs of hw:cpu_dedicated_mask, none without one.

    Refuses a mask that leaves no pinned or no other CPU, or names one that the flavor has not.
    Source: nova.virt.hardware.get_dedicated_cpu_constraint.
    """
    mask = flavor.extra_specs.get("hw:cpu_dedicated_mask")
    if not mask:
        return frozenset()
    cpus, masked = guest_cpus(flavor), _mask(flavor, mask)
    if not masked or not cpus - masked:
        raise RequestRefused(
            "Mixed instance must have at least 1 pinned vCPU and 1 unpinned vCPU. "
            "See 'hw:cpu_dedicated_mask'."
        )
    if not masked <= cpus:
        raise RequestRefused(
            "Mixed instance dedicated vCPU(s) mask is not a subset of vCPUs in the flavor. "
            'See "hw:cpu_dedicated_mask"'
        )
    return masked


def realtime_cpus(flavor: Flavor, image_properties: Mapping[str, str], *, offloaded: bool) -> frozenset[int]:
    """Return the realtime CPUs, none without hw:cpu_realtime; an image's mask counts before the flavor's.

    Refuses a mask of none, of CPUs that the flavor has not, and of all unless the emulator's threads run
    elsewhere. Source: nova.virt.hardware.get_realtime_cpu_constraint.
    """
    if not bool_from_string(flavor.extra_specs.get("hw:cpu_realtime", "")):
        return frozenset()
    of_flavor, of_image = asked(flavor, image_properties, "cpu_realtime_mask")
    mask = of_image or of_flavor
    cpus = guest_cpus(flavor)
    realtime = _mask(flavor, mask) if mask else cpus
    if not realtime or (realtime == cpus and not offloaded):
        raise RequestRefused(
            "Use of realtime CPUs requires either one or more non-realtime CPU(s) or offloaded emulator "
            "threads."
        )
    if not realtime <= cpus:
        raise RequestRefused(
            "Realtime policy vCPU(s) mask is configured with RT vCPUs that are not a subset of the vCPUs in "
            "the flavor. See hw:cpu_realtime_mask or hw_cpu_realtime_mask"
        )
    return realtime


def _mask(flavor: Flavor, mask: str) -> frozenset[int]:
    """Return the CPUs of a mask; one that starts with an exclusion is of all the guest's."""
    all_but = mask.strip().startswith("^")
    return cpu_numbers(f"0-{flavor.vcpus - 1},{mask}" if all_but else mask)


def cpu_numbers(spec: str) -> frozenset[int]:
    """Return the CPUs of a text such as "0-3,^2,5": what it excludes is out, wherever it stands.

    Refuses, in Nova's words, what is no number below CPU_NUMBER_END and a range that ends before it starts.
    Source: nova.virt.hardware.parse_cpu_spec.
    """
    # Bits, not sets: thousands of wide ranges in one text would take seconds.
    included = excluded = 0
    for rule in filter(None, map(str.strip, spec.split(","))):
        if rule.startswith("^"):
            excluded |= _bits(rule, rule[1:], "exclusion")
        else:
            included |= _bits(rule, rule, "inclusion")
    digits = f"{included & ~excluded:b}"
    return frozenset(number for number, digit in enumerate(reversed(digits)) if digit == "1")


def _bits(rule: str, text: str, kind: str) -> int:
    """Return the set of a number or a range as bits; `kind` is what a bad number is called."""
    ends = text.split("-", 1)
    first, last = _number(ends[0]), _number(ends[-1])
    if first is None or last is None or first > last:
        raise RequestRefused(f"Invalid {kind if len(ends) == 1 else 'range'} expression {truncated(rule)!r}")
    return ((1 << (last - first + 1)) - 1) << first


def _number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if 0 <= number < CPU_NUMBER_END else None
