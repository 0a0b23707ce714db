# SPDX-License-Identifier: Apache-2.0
"""The types that the fields of commands are made of: bounds, names, Nova's states.

All bounds are closed. A number above COUNT_MAX cannot be a real host's and would overflow a SQL column.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from msgspec import Meta

COUNT_MAX = 2**31 - 1
FINITE_MAX = 2**53

_PRINTABLE = r"^[^\x00-\x1f\x7f]+\Z"
"""Names become SQL columns, log lines and routing keys: control characters have no place in them."""
_PRINTABLE_OR_EMPTY = r"^[^\x00-\x1f\x7f]*\Z"

Name = Annotated[str, Meta(max_length=255, pattern=_PRINTABLE)]
Label = Annotated[str, Meta(max_length=255, pattern=_PRINTABLE_OR_EMPTY)]
"""A text that names nothing of this worker's; senders write "" where there is none."""
Uuid = Annotated[str, Meta(max_length=36, pattern=_PRINTABLE)]
EventId = Annotated[str, Meta(max_length=64, pattern=_PRINTABLE)]
Text = Annotated[str, Meta(max_length=65535)]

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]

if TYPE_CHECKING:
    # What a rule sees: the fraction is cut before anything else.
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
"""Numbers of the hypervisor's report, whose fractions are cut.

-1 stands for one that it does not tell. A cell of 8 TiB has more ordinary pages than anything else has.
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
