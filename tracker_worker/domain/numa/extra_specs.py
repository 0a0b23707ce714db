# SPDX-License-Identifier: Apache-2.0
"""Parsers of extra specs and image properties: the flavor's and the image's value, choices, sets of CPUs.

The texts are untrusted: the cost of parsing them is bounded, and the only error raised is RequestRefused.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.extra_specs import bool_from_string, truncated
from tracker_worker.domain.flavors import Flavor

CPU_NUMBER_END = 65_536
GUEST_CPUS_MAX = 4_096
"""Most vCPUs of a guest with a topology: the bound of a cell's CpuSet. No hypervisor supports more."""

Choice = TypeVar("Choice", bound=StrEnum)


def asked(flavor: Flavor, image_properties: Mapping[str, str], name: str) -> tuple[str | None, str | None]:
    """Return the values of the flavor (hw:name) and the image (hw_name); None if absent or empty."""
    return flavor.extra_specs.get(f"hw:{name}") or None, image_properties.get(f"hw_{name}") or None


def one_of(text: str | None, choices: type[Choice], what: str) -> Choice | None:
    """Return the choice that a text names, None without a text; refuse any other text with Nova's wording."""
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
    """Return the CPUs of hw:cpu_dedicated_mask, none without a mask.

    Refuses a mask that leaves no pinned or no unpinned CPU, and a mask with a CPU that the flavor lacks.
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
    """Return the realtime CPUs, none without hw:cpu_realtime. The image's mask overrides the flavor's.

    Refuses an empty mask, a mask with a CPU that the flavor lacks, and, unless emulator threads are
    offloaded, a mask of all CPUs. Source: nova.virt.hardware.get_realtime_cpu_constraint.
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
    """Return the CPUs of a mask. One that starts with an exclusion excludes from all of the guest's CPUs."""
    all_but = mask.strip().startswith("^")
    return cpu_numbers(f"0-{flavor.vcpus - 1},{mask}" if all_but else mask)


def cpu_numbers(spec: str) -> frozenset[int]:
    """Return the CPUs of a text such as "0-3,^2,5". Exclusions apply whatever their position.

    Refuses, with Nova's wording, anything but numbers below CPU_NUMBER_END, and a range that ends before it
    starts.
    Source: nova.virt.hardware.parse_cpu_spec.
    """
    # Bit masks: with sets, thousands of wide ranges in one text would take seconds.
    included = excluded = 0
    for rule in filter(None, map(str.strip, spec.split(","))):
        if rule.startswith("^"):
            excluded |= _bits(rule, rule[1:], "exclusion")
        else:
            included |= _bits(rule, rule, "inclusion")
    digits = f"{included & ~excluded:b}"
    return frozenset(number for number, digit in enumerate(reversed(digits)) if digit == "1")


def _bits(rule: str, text: str, kind: str) -> int:
    """Return a number or a range as a bit mask. `kind` is the error's term for an invalid number."""
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
