# SPDX-License-Identifier: Apache-2.0
"""Mappings with keys of the sender's choice: which extra specs and image properties the rules read, which
figures of a driver are secrets by their names, which texts are booleans, and how a reason quotes one.
"""

import re

READ_KEYS_ONLY = ("extra_specs", "image_properties")
"""Fields of commands that accept any keys, of which only those that a rule reads are kept."""

STATS = "stats"
"""The field of a report with figures of the driver, which has any keys."""

PCI_ALIAS = "pci_passthrough:alias"
"""The extra spec that asks for devices by their aliases."""

_GROUP = r"[a-zA-Z0-9_-]{0,64}"
"""The suffix of a request group of Placement, as in `resources1:`; empty for the unnumbered group."""
_READ = re.compile(rf"(hw[:_]|(resources|trait){_GROUP}:|pci_passthrough:)")
RESOURCES_KEY = re.compile(rf"resources{_GROUP}:(.+)")
"""A key that requests an amount of a resource class; the match's first group is the class."""

_SECRET = re.compile(
    r"passw|passphrase|pswd|(^|_)pass$|adminPass|secret|token|credential|(private|auth|api|ssh)[_-]?key",
    re.IGNORECASE,
)
_SHOWN = 64
_BOOLEANS = dict.fromkeys(("1", "t", "true", "on", "y", "yes"), True) | dict.fromkeys(
    ("0", "f", "false", "off", "n", "no"), False
)


def read_keys(mapping: dict[str, str]) -> dict[str, str]:
    """Return the extra specs or image properties that a rule reads; the others are never kept (promise 7)."""
    return {key: value for key, value in mapping.items() if _READ.match(key)}


def is_secret_name(key: str) -> bool:
    """Tell whether a key of a driver's figures names a password, a token or a key; it is dropped."""
    return _SECRET.search(key) is not None


def bool_from_string(value: object) -> bool | None:
    """Parse a boolean as Nova does; None for any other text, which Nova takes for false.

    Source: oslo_utils.strutils.bool_from_string, which in strict mode raises where this returns None.
    """
    return _BOOLEANS.get(str(value).strip().lower())


def truncated(text: str) -> str:
    """Return a text as a reason quotes it: printable, and cut when it is longer than any valid value."""
    printable = "".join(char if char.isprintable() else "?" for char in text[:_SHOWN])
    return printable if len(text) <= _SHOWN else f"{printable}..."
