# SPDX-License-Identifier: Apache-2.0
"""The flavor of an instance, and the amounts that the instance uses on a node."""

from msgspec import Struct
from msgspec.structs import force_setattr

from tracker_worker.domain.extra_specs import RESOURCES_KEY, read_keys
from tracker_worker.domain.fields import COUNT_MAX, Count, Label, Name, Text

MB_PER_GB = 1024


class Flavor(Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """Nova's flavor; memory and swap in MB, disks in GB."""

    vcpus: Count  #: virtual CPUs [vCPUs]
    memory_mb: Count  #: RAM [MB]
    root_gb: Count  #: root disk; counts as 0 when the instance is volume backed [GB]
    ephemeral_gb: Count = 0  #: ephemeral disks together [GB]
    swap_mb: Count = 0  #: swap disk [MB]
    extra_specs: dict[Label, Text] = {}  #: extra specs; keys that no rule reads are dropped
    name: Label | None = None  #: name of the flavor, shown only
    id: Name | None = None  #: flavor id (Nova's `flavorid`), shown only

    def __post_init__(self) -> None:
        """Drop the extra specs that no rule reads."""
        if self.extra_specs:
            force_setattr(self, "extra_specs", read_keys(self.extra_specs))


class Amounts(Struct, frozen=True, gc=False, array_like=True):
    """Amounts of vcpus, memory in MB and disk in MB, not in GB: swap is not rounded."""

    vcpus: int = 0
    memory_mb: int = 0
    disk_mb: int = 0

    def plus(self, other: "Amounts") -> "Amounts":
        """Return the sum."""
        return Amounts(
            self.vcpus + other.vcpus, self.memory_mb + other.memory_mb, self.disk_mb + other.disk_mb
        )

    def minus(self, other: "Amounts") -> "Amounts":
        """Return the difference, which may be negative."""
        return Amounts(
            self.vcpus - other.vcpus, self.memory_mb - other.memory_mb, self.disk_mb - other.disk_mb
        )


def amounts_of(flavor: Flavor, volume_backed: bool) -> Amounts:
    """Return the amounts that an instance of this flavor uses.

    Source: nova.compute.resource_tracker._update_usage, with Nova's rule that the root disk of a volume
    backed instance is no local disk (bugs 1469179, 1796737), and without its rounding of swap.
    """
    root_gb = 0 if volume_backed else flavor.root_gb
    disk_mb = (root_gb + flavor.ephemeral_gb) * MB_PER_GB + flavor.swap_mb
    return Amounts(flavor.vcpus, flavor.memory_mb, disk_mb)


def requested_amounts(flavor: Flavor, volume_backed: bool) -> Amounts:
    """Return the amounts that Nova requests from Placement: `amounts_of`, unless `resources:*` override them.

    Amounts of all groups are added up, VCPU and PCPU as vcpus. A text that is not a number is ignored.
    Source: nova.scheduler.utils.ResourceRequest.from_request_spec.
    """
    named: dict[str, int] = {}
    for key, text in flavor.extra_specs.items():
        resource, amount = RESOURCES_KEY.fullmatch(key), _amount(text)
        if resource is not None and amount is not None:
            named[resource[1]] = min(named.get(resource[1], 0) + amount, COUNT_MAX)
    amounts = amounts_of(flavor, volume_backed)
    vcpus = [named[cpus] for cpus in ("VCPU", "PCPU") if cpus in named]
    return Amounts(
        vcpus=sum(vcpus) if vcpus else amounts.vcpus,
        memory_mb=named.get("MEMORY_MB", amounts.memory_mb),
        disk_mb=named["DISK_GB"] * MB_PER_GB if "DISK_GB" in named else amounts.disk_mb,
    )


def _amount(text: str) -> int | None:
    try:
        amount = int(text)
    except ValueError:
        return None
    return amount if amount >= 0 else None


def same_numbers(one: Flavor, other: Flavor) -> bool:
    """Tell whether two flavors have equal numbers, whatever their names."""
    return (
        one.vcpus == other.vcpus
        and one.memory_mb == other.memory_mb
        and one.root_gb == other.root_gb
        and one.ephemeral_gb == other.ephemeral_gb
        and one.swap_mb == other.swap_mb
    )
