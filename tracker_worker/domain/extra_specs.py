# SPDX-License-Identifier: Apache-2.0
"""Extra specs and image properties: which of them the rules read, which texts are booleans, and how
a reason quotes one."""

import re

READ_KEYS_ONLY = ("extra_specs", "image_properties")
"""The fields of commands of which only the keys are kept that a rule reads; a sender may have any others."""

PCI_ALIAS = "pci_passthrough:alias"
"""The extra spec that asks for devices by their aliases."""

_GROUP = r"[a-zA-Z0-9_-]{0,64}"
"""Groups of resources and traits may have a suffix."""
_READ = re.compile(rf"(hw[:_]|(resources|trait){_GROUP}:|pci_passthrough:)")
RESOURCES_KEY = re.compile(rf"resources{_GROUP}:(.+)")
"""A key that asks for an amount of a resource class, whose name is the first group."""

_SHOWN = 64
_BOOLEANS = dict.fromkeys(("1", "t", "true", "on", "y", "yes"), True) | dict.fromkeys(
    ("0", "f", "false", "off", "n", "no"), False
)


def read_keys(mapping: dict[str, str]) -> dict[str, str]:
    """Return the extra specs or image properties that a rule reads; the rest is never kept (promise 7)."""
    return {key: value for key, value in mapping.items() if _READ.match(key)}


def bool_from_string(value: object) -> bool | None:
    """Read a boolean as Nova does, None for what is neither true nor false: Nova takes that for false.

    Source: oslo_utils.strutils.bool_from_string, which raises in place of None where it is strict.
    """
    return _BOOLEANS.get(str(value).strip().lower())


def truncated(text: str) -> str:
    """Return a text as a reason quotes it: printable, and cut when it is longer than any valid value."""
    printable = "".join(char if char.isprintable() else "?" for char in text[:_SHOWN])
    return printable if len(text) <= _SHOWN else f"{printable}..."
