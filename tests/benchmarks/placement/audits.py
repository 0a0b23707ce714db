# SPDX-License-Identifier: Apache-2.0
"""The nodes' reports, in the bytes that rpcapi sends. Pure."""

from collections.abc import Iterable
from typing import Any

from tests.benchmarks.latency.audits import Json, instance_of, report_of
from tracker_worker.core.envelope import encode
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of

TRAITS = ("HW_CPU_X86_AVX2", "HW_CPU_X86_SSE42", "CUSTOM_RACK_7")
VCPUS = 64


def change(node: str, number: int) -> bytes:
    """An audit with a total that depends on the number: Placement has to know it."""
    return _audit(node, vcpus=VCPUS + number)


def no_change(node: str, change: int, number: int) -> bytes:
    """An audit with the total of `change`, whose other figures, instances and usage differ by number."""
    report = {"vcpus": VCPUS + change, "memory_mb_used": 1024 + number, "local_gb_used": number % 100}
    instances = [instance_of(node, index, host=node, node=node) for index in range(1 + number % 3)]
    return _audit(node, instances, **report)


def one_of_each_partition(nodes: Iterable[str]) -> list[str]:
    """Nodes of which no two are in the same partition, as many as there are."""
    return list({partition_of(node, DEFAULT_PARTITIONS): node for node in nodes}.values())


def _audit(node: str, instances: list[Json] | None = None, /, **report: Any) -> bytes:
    args: Json = {"node": node, "resources": report_of(node) | {"traits": list(TRAITS)} | report}
    if instances is not None:
        args |= {"instances": instances, "migrations": []}
    return encode("update_available_resource", args)
