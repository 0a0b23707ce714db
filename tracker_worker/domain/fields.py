# SPDX-License-Identifier: Apache-2.0
"""The types of the fields of commands: bounded numbers, names, Nova's states.

Bounds are inclusive. No real host has a number above COUNT_MAX, which would overflow a SQL column.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from msgspec import Meta

COUNT_MAX = 2**31 - 1
FINITE_MAX = 2**53

UNSEEN = (
    r"\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680"
    r"\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff"
    r"\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Control, direction, invisible and blank characters, as the content of a regular expression's set: Unicode's
Cc, Cf, Zl, Zp and Default_Ignorable_Code_Point, and all spaces but U+0020.

Two names that differ only in these look the same, and some of them control a terminal. The set is written out
because Unicode's tables differ between versions of Python.
"""

HOST_NAME = r"^[!-~]+\Z"
NAME = rf"^(?! )[^{UNSEEN}]+(?<! )\Z"
HOST_NAME_OR_EMPTY = r"^[!-~]*\Z"
LABEL = r"^[^\x00-\x1f\x7f]*\Z"
PATTERN_TEXTS = {
    HOST_NAME: "a host name has visible ASCII characters only, and no blank",
    NAME: "a name has no control, format or zero-width character, and no blank at its ends",
    HOST_NAME_OR_EMPTY: "a host name has visible ASCII characters only, and no blank",
    LABEL: "it has a control character",
}
"""The error text for a value that does not match a pattern."""

HostName = Annotated[str, Meta(max_length=255, pattern=HOST_NAME)]
"""Name of a node (the hypervisor's hostname) or a host, as Nova's drivers set it: a DNS name, an Ironic
node's uuid, a cluster's id. ASCII only, because letters of other scripts look alike.
"""
HostNameOrEmpty = Annotated[str, Meta(max_length=255, pattern=HOST_NAME_OR_EMPTY)]
"""For fields in which senders write "" for no host."""
Name = Annotated[str, Meta(max_length=255, pattern=NAME)]
Uuid = Annotated[str, Meta(max_length=36, pattern=NAME)]
EventId = Annotated[str, Meta(max_length=64, pattern=NAME)]
Label = Annotated[str, Meta(max_length=255, pattern=LABEL)]
"""A text that a tenant or an administrator chose, as for an image or a flavor. All but control characters are
valid, so that no name keeps an instance from being counted. Senders write "" for none. Shown escaped.
"""
Text = Annotated[str, Meta(max_length=65535)]

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]

if TYPE_CHECKING:
    # Rules see integers: decoding cuts the fractions.
    Whole: TypeAlias = int
    WholeAboveZero: TypeAlias = int
    WholeOrMinusOne: TypeAlias = int
    Pages: TypeAlias = int
else:

    def _whole(least: int, most: int = COUNT_MAX) -> Any:
        within = Meta(ge=least, le=most)
        return Annotated[int, within] | Annotated[float, within]

    Whole, WholeAboveZero, WholeOrMinusOne = map(_whole, (0, 1, -1))
    Pages = _whole(0, FINITE_MAX)
"""Numbers of the hypervisor's report. Fractions are cut; -1 is a number that the hypervisor does not report.

Pages have a higher bound, because a cell of 8 TiB has 2^31 pages of 4 KiB.
"""

_FINITE = Meta(ge=-FINITE_MAX, le=FINITE_MAX)
Finite = Annotated[int, _FINITE] | Annotated[float, _FINITE]
Ratio = Annotated[float, Meta(ge=0.0, le=1_000_000.0)]
Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]
CpuSet = Annotated[list[Count], Meta(max_length=4096)]
HostCpuSet = Annotated[list[Whole], Meta(max_length=4096)]

VmState = Literal[
    "active", "building", "paused", "suspended", "stopped", "rescued", "resized", "soft-delete",
    "deleted", "error", "shelved", "shelved_offloaded",
]  # fmt: skip
"""nova.objects.fields.InstanceState"""

TaskState = Literal[
    "scheduling", "block_device_mapping", "networking", "spawning", "image_snapshot",
    "image_snapshot_pending", "image_pending_upload", "image_uploading", "image_backup",
    "updating_password", "resize_prep", "resize_migrating", "resize_migrated", "resize_finish",
    "resize_reverting", "resize_confirming", "rebooting", "reboot_pending", "reboot_started",
    "rebooting_hard", "reboot_pending_hard", "reboot_started_hard", "pausing", "unpausing",
    "suspending", "resuming", "powering-off", "powering-on", "rescuing", "unrescuing", "rebuilding",
    "rebuild_block_device_mapping", "rebuild_spawning", "migrating", "deleting", "soft-deleting",
    "restoring", "shelving", "shelving_image_pending_upload", "shelving_image_uploading",
    "shelving_offloading", "unshelving",
]  # fmt: skip
"""nova.objects.fields.InstanceTaskState"""

MigrationType = Literal["resize", "migration", "live-migration", "evacuation"]
"""nova.objects.fields.MigrationType"""


class CpuPolicy(StrEnum):
    """nova.objects.fields.CPUAllocationPolicy; messages list the values of each policy in Nova's order."""

    DEDICATED = "dedicated"
    SHARED = "shared"
    MIXED = "mixed"


class CpuThreadPolicy(StrEnum):
    """nova.objects.fields.CPUThreadAllocationPolicy"""

    PREFER = "prefer"
    ISOLATE = "isolate"
    REQUIRE = "require"


class EmulatorThreadsPolicy(StrEnum):
    """nova.objects.fields.CPUEmulatorThreadsPolicy"""

    SHARE = "share"
    ISOLATE = "isolate"


class PciNumaPolicy(StrEnum):
    """nova.objects.fields.PCINUMAAffinityPolicy"""

    REQUIRED = "required"
    PREFERRED = "preferred"
    LEGACY = "legacy"
    SOCKET = "socket"


class PciDeviceType(StrEnum):
    """nova.objects.fields.PciDeviceType"""

    STANDARD = "type-PCI"
    PF = "type-PF"
    VF = "type-VF"
    VDPA = "vdpa"


class PciDeviceStatus(StrEnum):
    """nova.objects.fields.PciDeviceStatus, without the statuses that a report never has."""

    AVAILABLE = "available"
    CLAIMED = "claimed"
    ALLOCATED = "allocated"
    UNCLAIMABLE = "unclaimable"
    UNAVAILABLE = "unavailable"


class RequestSource(StrEnum):
    """The source of a PCI request: an alias in the flavor, or a port."""

    ALIAS = "flavor_alias"
    PORT = "neutron_port"
