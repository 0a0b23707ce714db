# SPDX-License-Identifier: Apache-2.0
"""Page sizes as texts, and the pages that a host keeps for itself."""

from typing import Any

import pytest
from oslo_utils import strutils, units

from tracker_worker.domain.fields import COUNT_MAX
from tracker_worker.domain.numa.pages import page_size_kb, parse_reserved_pages
from tracker_worker.domain.objects import ReservedPages


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4", 4), ("2048", 2048), ("1048576", 1048576), ("0002048", 2048),
        ("4KB", 4), ("4KiB", 4), ("2MB", 2048), ("2MiB", 2048),
        ("1GB", 1048576), ("1GiB", 1048576), ("1TB", 2**30), ("0.5GB", 524288),
        (".5MB", 512), ("1.5MB", 1536), ("4096B", 4), ("8Kb", 1), ("16Mbit", 2048), ("8192b", 1),
        (str(COUNT_MAX), COUNT_MAX),
    ],
)  # fmt: skip
def test_a_page_size_is_kib_or_has_a_unit(text: str, size: int) -> None:
    assert page_size_kb(text) == size


@pytest.mark.parametrize(
    "text", ["2MB", "2MiB", "1GB", "1GiB", "64KB", "4096B", "16Mb", "16Mbit", "0.5GB", "1TB"]
)
def test_a_unit_is_what_oslo_says(text: str) -> None:
    assert page_size_kb(text) == strutils.string_to_bytes(text, return_int=True) / units.Ki


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "0MB", "-1", "-2MB", "+2MB", "large", "2 MB", "2mb", "2kB", "2MBB", "MB", "1.5", "2.",
        "4K", "4Ki", "2M", "1G", "1T", " 2048", "2048 ", "2MB ",
        "1e3", "512B", "1.0001KB", "2PB", "2E", "1Q", "2147483648", "٢", "9" * 5000, "0x800", "2048\x00",
    ],
)  # fmt: skip
def test_another_text_is_no_page_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be KiB \(2048\) or have a unit \(2MB, 1GB\)") as refused:
        page_size_kb(text)
    assert len(str(refused.value)) < 200


def an_entry(**more: str) -> dict[str, str]:
    return {"node": "0", "size": "2048", "count": "64", **more}


def test_reserved_pages_are_numbers() -> None:
    entries = [an_entry(), {"count": " 1 ", "size": " 1GB ", "node": "1"}, an_entry(node="1", count="0")]
    assert parse_reserved_pages(entries) == (
        ReservedPages(node=0, size_kb=2048, count=64),
        ReservedPages(node=1, size_kb=1048576, count=1),
        ReservedPages(node=1, size_kb=2048, count=0),
    )


@pytest.mark.parametrize("entries", [None, []])
def test_nothing_reserved_is_nothing(entries: list[Any] | None) -> None:
    assert parse_reserved_pages(entries) == ()


def test_the_last_one_of_a_node_and_size_holds() -> None:
    assert parse_reserved_pages([an_entry(), an_entry(size="2MB", count="1")]) == (
        ReservedPages(node=0, size_kb=2048, count=1),
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "must be node:NUMBER,size:SIZE,count:NUMBER"),
        ({"node": "0", "size": "2048"}, "must be node:NUMBER,size:SIZE,count:NUMBER"),
        (an_entry(pages="1"), "must be node:NUMBER,size:SIZE,count:NUMBER"),
        (an_entry(node="one"), "node must be a number from 0 on"),
        (an_entry(node="-1"), "node must be a number from 0 on"),
        (an_entry(count="1.5"), "count must be a number from 0 on"),
        (an_entry(count=""), "count must be a number from 0 on"),
        (an_entry(count=str(COUNT_MAX + 1)), "count must be a number from 0 on"),
        (an_entry(count="9" * 5000), "count must be a number from 0 on"),
        (an_entry(size="big"), "page size 'big' must be KiB"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_option_the_value_and_the_reason(
    entry: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=r"^\[tracker\] reserved_huge_pages '") as refused:
        parse_reserved_pages([an_entry(), entry])
    assert reason in str(refused.value)
    assert all(f"{key}:{value}"[:50] in str(refused.value) for key, value in entry.items())
