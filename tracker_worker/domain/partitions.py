# SPDX-License-Identifier: Apache-2.0
"""Exchange, topic and partition of a node's commands. They must be the same for clients and workers."""

from zlib import crc32

TOPIC = "tracker"
"""Topic of all commands; a routing key is topic.server."""
DEFAULT_EXCHANGE = "tracker"
EXCHANGE_PATTERN = r"^[A-Za-z0-9._-]{1,127}\Z"
"""The names that an exchange may have; none is empty, which is the broker's default exchange."""
DEFAULT_PARTITIONS = 16


def partition_of(node: str, partitions: int) -> int:
    """Return the partition of a node name (crc32 of its UTF-8 bytes, modulo)."""
    return crc32(node.encode("utf-8", "surrogatepass")) % partitions


def server_of(partition: int) -> str:
    """Return the oslo.messaging server name of a partition; queue and routing key are topic.server."""
    return f"p{partition}"
