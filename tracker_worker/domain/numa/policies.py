# SPDX-License-Identifier: Apache-2.0
"""The CPU policies that a flavor and an image request, and the guest CPUs that they dedicate.

Source: nova.virt.hardware.numa_get_constraints (34.0) up to its sanity checks, with the wording of its
exceptions.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.fields import CpuPolicy, CpuThreadPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.numa.extra_specs import (
    Choice,
    asked,
    dedicated_mask,
    guest_cpus,
    one_of,
    realtime_cpus,
)

_NOT_OVER: dict[CpuPolicy, tuple[CpuPolicy, ...]] = {
    CpuPolicy.DEDICATED: (),
    CpuPolicy.MIXED: (CpuPolicy.DEDICATED,),
    CpuPolicy.SHARED: (CpuPolicy.DEDICATED, CpuPolicy.MIXED),
}
"""By the flavor's policy, the policies that an image may not request."""

_HYPERTHREADING = "trait:HW_CPU_HYPERTHREADING"
_NUMBERED_HYPERTHREADING = re.compile(r"trait(?:[1-9][0-9]*)?:HW_CPU_HYPERTHREADING")
_REQUIRED, _FORBIDDEN = "required", "forbidden"
_POLICY_OF_TRAIT = {_FORBIDDEN: CpuThreadPolicy.ISOLATE, _REQUIRED: CpuThreadPolicy.REQUIRE}


class Policies(Struct, frozen=True):
    """The requested policies, None where none is requested; `dedicated` are the guest's pinned CPUs."""

    cpu: CpuPolicy | None
    threads: CpuThreadPolicy | None
    emulator_threads: EmulatorThreadsPolicy | None
    dedicated: frozenset[int]


def policies_of(flavor: Flavor, image_properties: Mapping[str, str]) -> Policies:
    """Return the CPU policies of a flavor and an image.

    Refuses invalid values, contradictory policies, and an image that conflicts with its flavor.
    """
    implied = _cpu_policy(flavor, image_properties)
    threads = _thread_policy(flavor, image_properties)
    emulator = _emulator_policy(flavor)
    realtime = realtime_cpus(flavor, image_properties, offloaded=emulator is not None)
    masked = dedicated_mask(flavor)
    cpu = _explicit_policy(flavor, implied, emulator)
    threads = _trait_policy(flavor, image_properties, threads)
    _refuse_contradictions(cpu, threads, emulator, masked=bool(masked), realtime=bool(realtime))
    dedicated = guest_cpus(flavor) if cpu == CpuPolicy.DEDICATED else masked or realtime
    return Policies(cpu, threads, emulator, dedicated)


def _cpu_policy(flavor: Flavor, image_properties: Mapping[str, str]) -> CpuPolicy | None:
    of_flavor, of_image = _both(flavor, image_properties, "cpu_policy", CpuPolicy, "CPU policy")
    if of_flavor is None:
        return of_image
    if of_image in _NOT_OVER[of_flavor]:
        raise RequestRefused(
            "Image property 'hw_cpu_policy' is not permitted to override CPU pinning policy set against "
            "the flavor"
        )
    return of_flavor


def _thread_policy(flavor: Flavor, image_properties: Mapping[str, str]) -> CpuThreadPolicy | None:
    of_flavor, of_image = _both(
        flavor, image_properties, "cpu_thread_policy", CpuThreadPolicy, "CPU thread policy"
    )
    if of_flavor is None or of_flavor == CpuThreadPolicy.PREFER:
        return of_flavor or of_image
    if of_image not in (None, of_flavor):
        raise RequestRefused(
            "Image property 'hw_cpu_thread_policy' is not permitted to override CPU thread pinning policy "
            "set against the flavor"
        )
    return of_flavor


def _both(
    flavor: Flavor, image_properties: Mapping[str, str], name: str, choices: type[Choice], what: str
) -> tuple[Choice | None, Choice | None]:
    of_flavor, of_image = asked(flavor, image_properties, name)
    return (
        one_of(of_flavor, choices, f"{what} requested from 'flavor extra specs'"),
        one_of(of_image, choices, f"{what} requested from 'image properties'"),
    )


def _emulator_policy(flavor: Flavor) -> EmulatorThreadsPolicy | None:
    """Return the flavor's policy. Images cannot request one, because it takes CPUs of the host.

    Source: nova.virt.hardware.get_emulator_thread_policy_constraint.
    """
    text = flavor.extra_specs.get("hw:emulator_threads_policy") or None
    return one_of(text, EmulatorThreadsPolicy, "CPU emulator threads option requested")


def _explicit_policy(
    flavor: Flavor, implied: CpuPolicy | None, emulator: EmulatorThreadsPolicy | None
) -> CpuPolicy | None:
    """Return the policy that resources:VCPU or resources:PCPU request, else the implied one."""
    shared, dedicated = _amount(flavor, "VCPU"), _amount(flavor, "PCPU")
    if implied and (shared or dedicated):
        raise RequestRefused(
            "It is not possible to use the 'resources:VCPU' or 'resources:PCPU' extra specs in combination "
            "with the 'hw:cpu_policy' extra spec or 'hw_cpu_policy' image metadata property; use one or the "
            "other"
        )
    if shared and dedicated:
        raise RequestRefused(
            "It is not possible to specify both 'resources:VCPU' and 'resources:PCPU' extra specs; use one "
            "or the other"
        )
    if dedicated:
        _refuse_other_amount(flavor, dedicated, emulator)
        return CpuPolicy.DEDICATED
    return CpuPolicy.SHARED if shared else implied


def _amount(flavor: Flavor, resource_class: str) -> int:
    """Return the requested amount of a resource class, summed over groups; invalid numbers count as 0."""
    key = re.compile(rf"resources(?:[1-9][0-9]*)?:{resource_class}")
    return sum(_integer(text) for name, text in flavor.extra_specs.items() if key.fullmatch(name))


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _refuse_other_amount(flavor: Flavor, dedicated: int, emulator: EmulatorThreadsPolicy | None) -> None:
    """Refuse any amount of PCPUs but the flavor's vcpus, plus one with isolated emulator threads."""
    if emulator == EmulatorThreadsPolicy.ISOLATE and dedicated != flavor.vcpus + 1:
        raise RequestRefused(
            "You have requested 'hw:emulator_threads_policy=isolate' but have not requested sufficient PCPUs "
            "to handle this policy; you must allocate exactly flavor.vcpus + 1 PCPUs."
        )
    if emulator != EmulatorThreadsPolicy.ISOLATE and dedicated != flavor.vcpus:
        raise RequestRefused(
            "There is a mismatch between the number of PCPUs requested via 'resourcesNN:PCPU' and the "
            "flavor); you must allocate exactly flavor.vcpus PCPUs"
        )


def _trait_policy(
    flavor: Flavor, image_properties: Mapping[str, str], threads: CpuThreadPolicy | None
) -> CpuThreadPolicy | None:
    """Return the thread policy that the hyperthreading trait implies, else the one requested by name."""
    trait = _hyperthreading(flavor, image_properties)
    if trait and threads:
        raise RequestRefused(
            "It is not possible to use the 'trait:HW_CPU_HYPERTHREADING' extra spec in combination with the "
            "'hw:cpu_thread_policy' extra spec or 'hw_cpu_thread_policy' image metadata property; use one "
            "or the other"
        )
    return _POLICY_OF_TRAIT.get(trait, threads)


def _hyperthreading(flavor: Flavor, image_properties: Mapping[str, str]) -> str:
    """Return the value of the hyperthreading trait of the flavor, else of the image; "" without one."""
    # Sorted, so that the same group wins after the flavor was stored and loaded again.
    for name, value in sorted(flavor.extra_specs.items()):
        if _NUMBERED_HYPERTHREADING.fullmatch(name):
            return value
    return _REQUIRED if image_properties.get(_HYPERTHREADING) == _REQUIRED else ""


def _refuse_contradictions(
    cpu: CpuPolicy | None,
    threads: CpuThreadPolicy | None,
    emulator: EmulatorThreadsPolicy | None,
    *,
    masked: bool,
    realtime: bool,
) -> None:
    floating = cpu in (None, CpuPolicy.SHARED)
    contradictions = (
        (
            floating and threads is not None,
            "Cannot set cpu thread pinning policy in a non dedicated cpu pinning policy",
        ),
        (
            floating and emulator == EmulatorThreadsPolicy.ISOLATE,
            "An isolated CPU emulator threads option requires a dedicated CPU policy option.",
        ),
        (
            masked and cpu != CpuPolicy.MIXED,
            "Cannot specify 'hw:cpu_dedicated_mask' without the 'mixed' policy.",
        ),
        (floating and realtime, "Cannot set realtime policy in a non dedicated cpu pinning policy"),
        (
            cpu == CpuPolicy.MIXED and masked == realtime,
            "Dedicated CPU set can be specified from either 'hw:cpu_dedicated_mask' or "
            "'hw:cpu_realtime_mask' when using 'mixed' CPU policy. 'hw:cpu_dedicated_mask' and "
            "'hw:cpu_realtime_mask' can not be specified at the same time, or be specified with none of "
            "them.",
        ),
    )
    for holds, reason in contradictions:
        if holds:
            raise RequestRefused(reason)
