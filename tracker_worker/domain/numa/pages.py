# SPDX-License-Identifier: Apache-2.0
"""Memory pages: parsers of page sizes and of [tracker] reserved_huge_pages, the pages kept for the host."""

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction

from tracker_worker.domain.fields import COUNT_MAX
from tracker_worker.domain.objects import ReservedPages

SMALL, LARGE, ANY = -1, -2, -3
SIZE_CODES = {"small": SMALL, "large": LARGE, "any": ANY}
"""Nova's codes in place of a size: nova.virt.hardware.MEMPAGES_SMALL, MEMPAGES_LARGE, MEMPAGES_ANY."""

_PREFIXES = ("K", "M", "G", "T", "P", "E")
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)(?:([KMGTPE])i?)?(B|b|bit)")
_KIBIBYTES = re.compile(r"[0-9]+")
_SIZE_LENGTH = 32
_NUMBER = re.compile(r"[0-9]{1,10}")
_KEYS = ("node", "size", "count")


def page_size_kb(text: str) -> int:
    """Return the size of a page in KiB: digits alone are KiB, else "2MB", "1GB", "4KiB", "4096B".

    Units are oslo's: powers of 1024, case-sensitive, "b" and "bit" are bits. Raises ValueError for any other
    text, and for a size that is not a whole number of KiB above 0.

    Source: nova.virt.hardware._get_numa_pagesize_constraint and oslo_utils.strutils.string_to_bytes.
    """
    size = _kibibytes(text)
    if size is None or size.denominator != 1 or not 1 <= size <= COUNT_MAX:
        raise ValueError(f"page size {text[:_SIZE_LENGTH]!r} must be KiB (2048) or have a unit (2MB, 1GB)")
    return int(size)


def parse_reserved_pages(entries: Iterable[Mapping[str, str]] | None) -> tuple[ReservedPages, ...]:
    """Return the values of [tracker] reserved_huge_pages, each with the keys node, size and count.

    None stands for an unset option. The last value for a node and size wins. Raises ValueError with the
    option, the value and the reason.

    Source: nova.virt.hardware.numa_get_reserved_huge_pages.
    """
    reserved: dict[tuple[int, int], ReservedPages] = {}
    for entry in entries or ():
        try:
            pages = _reserved_pages(entry)
        except ValueError as error:
            shown = ",".join(f"{key}:{value}" for key, value in entry.items())
            raise ValueError(f"[tracker] reserved_huge_pages {shown[:100]!r}: {error}") from error
        reserved[pages.node, pages.size_kb] = pages
    return tuple(reserved.values())


def _kibibytes(text: str) -> Fraction | None:
    if len(text) > _SIZE_LENGTH:
        return None
    if _KIBIBYTES.fullmatch(text):
        return Fraction(text)
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    number, prefix, unit = found.groups()
    exponent = 0 if prefix is None else _PREFIXES.index(prefix) + 1
    units_of_a_kibibyte = 1024 if unit == "B" else 8 * 1024
    return Fraction(number) * Fraction(1 << 10 * exponent, units_of_a_kibibyte)


def _reserved_pages(entry: Mapping[str, str]) -> ReservedPages:
    if entry.keys() != set(_KEYS):
        raise ValueError("must be node:NUMBER,size:SIZE,count:NUMBER")
    return ReservedPages(
        node=_number("node", entry["node"]),
        size_kb=page_size_kb(entry["size"].strip()),
        count=_number("count", entry["count"]),
    )


def _number(key: str, text: str) -> int:
    if _NUMBER.fullmatch(text.strip()) is None or int(text) > COUNT_MAX:
        raise ValueError(f"{key} must be a number from 0 on")
    return int(text)
