# SPDX-License-Identifier: Apache-2.0
"""The differences from Nova that are meant; the documentation lists the same."""

import re
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Known = Callable[[Json, Json, Json], bool]


def _refused_here(pattern: str) -> Known:
    """Return whether the worker refuses for such a reason what Nova takes."""
    return lambda asked, theirs, ours: bool(
        "value" in theirs and re.search(pattern, ours.get("refused", ""), re.DOTALL)
    )


def _fails_in_nova(pattern: str) -> Known:
    """Return whether Nova ends with such an error where the worker has an answer."""
    return lambda asked, theirs, ours: bool(
        "value" in ours and re.search(pattern, theirs.get("failed") or theirs.get("refused", ""))
    )


def _of_several_traits(asked: Json, theirs: Json, ours: Json) -> bool:
    return sum("HW_CPU_HYPERTHREADING" in key for key in asked.get("extra_specs", ())) > 1


KNOWN: dict[str, Known] = {
    "page size that is no whole number of KiB: refused": _refused_here("^Invalid memory page size"),
    "number of nodes of an image that begins with 0: refused": _refused_here("numa_nodes'"),
    "hyperthreading trait in several groups: the first by name": _of_several_traits,
    "empty policy: as if absent": _fails_in_nova("^ValueError: Field value  is invalid"),
    "alternatives of an alias without device_type: taken": _fails_in_nova("definition: 'dev_type'"),
    "alternatives of an alias, one of them by its resource class: taken": _fails_in_nova("multiple specs"),
    "number of devices below 0: refused": _refused_here("is not NAME:COUNT"),
    "unknown part of a device_spec's address: refused": _refused_here("address has no "),
    "remote_managed that is neither true nor false: refused": _refused_here("remote_managed .* must be true"),
    "remote_managed at the full address of a PF: left out": _fails_in_nova("^KeyError: '<nova.pci.devspec"),
}
"""By what the worker does."""


def explanation(asked: Json, theirs: Json, ours: Json) -> str | None:
    """Return which known difference this one is, None for a new one."""
    return next((name for name, is_it in KNOWN.items() if is_it(asked, theirs, ours)), None)
