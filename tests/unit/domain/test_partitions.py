# SPDX-License-Identifier: Apache-2.0
"""The number that clients and workers must agree on for ever: changing it strands every queue."""

from collections import Counter

import pytest

from tracker_worker.domain.partitions import partition_of, server_of


@pytest.mark.parametrize(
    ("node", "crc32"),
    [
        ("123456789", 0xCBF43926),
        ("", 0),
        ("The quick brown fox jumps over the lazy dog", 0x414FA339),
    ],
)
@pytest.mark.parametrize("partitions", [1, 16, 1000])
def test_partition_is_the_standard_crc32(node: str, crc32: int, partitions: int) -> None:
    assert partition_of(node, partitions) == crc32 % partitions


def test_partition_is_taken_of_the_utf8_bytes() -> None:
    assert partition_of("\u00fc", 2**32) == 0x63D969D5


def test_name_that_is_no_utf8_has_a_partition() -> None:
    assert 0 <= partition_of("node-\ud800", 16) < 16


def test_nodes_spread_over_all_partitions() -> None:
    counts = Counter(partition_of(f"compute-{i}", 16) for i in range(1600))
    assert len(counts) == 16
    assert max(counts.values()) < 200


def test_server_of_a_partition_is_part_of_its_queues_name() -> None:
    assert [server_of(0), server_of(15)] == ["p0", "p15"]
