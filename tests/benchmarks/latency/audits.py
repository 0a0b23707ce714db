# SPDX-License-Identifier: Apache-2.0
"""The cloud and its audits, in the bytes that rpcapi sends. Pure.

A body is made once a node and has placeholders: encoding each audit would take as much CPU as handling it.
"""

import uuid
from collections.abc import Iterator
from typing import Any

from tests import samples
from tracker_worker.core.envelope import encode
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of, server_of

Json = dict[str, Any]

QUIET = 0
"""The partition in which no node is audited."""

_AS_OF, _SEQUENCE = 800_000_000, 900_000_000
_ID = "f" * 32


def audited_nodes(count: int) -> list[str]:
    """The names of so many nodes, which are in all partitions but the quiet one."""
    return [name for name, _ in zip(_names("compute", quiet=False), range(count), strict=False)]


def claimed_node(*, quiet: bool) -> str:
    """The name of a node without audits, in the quiet partition or in another one."""
    return next(_names("claims", quiet=quiet))


def server(node: str) -> str:
    """The server of a node's partition."""
    return server_of(partition_of(node, DEFAULT_PARTITIONS))


def report_of(node: str) -> Json:
    """What a node reports: it has room for everything."""
    return samples.a_report(
        _uuid(node, "node"),
        node,
        vcpus=10_000,
        memory_mb=1_000_000_000,
        local_gb=1_000_000,
        hypervisor_type="QEMU",
        hypervisor_version=8002000,
        cpu_info={"arch": "x86_64", "model": "EPYC", "features": ["sse", "vmx"]},
    )


def instance_of(node: str, index: int, /, **more: Any) -> Json:
    """An instance of a node."""
    factor = 1 + index % 4
    flavor = samples.a_flavor(factor, 2048 * factor, 20 * factor, name=f"m1.{factor}", id=str(factor))
    return samples.an_instance(
        _uuid(node, index), flavor, project_id=_uuid("project", index % 5), os_type="linux", **more
    )


class Audit:
    """The audits of a node, which all say the same; a call each with `reply_queue`, else a cast."""

    def __init__(self, node: str, instances: int, reply_queue: str | None = None) -> None:
        self.server = server(node)
        args = {
            "event_id": _ID,
            "origin": {"source": _uuid(node, "client"), "sequence": _SEQUENCE},
            "resources": report_of(node),
            "instances": [instance_of(node, index, host=node, node=node) for index in range(instances)],
            "migrations": [],
            "as_of": _AS_OF,
            "node": node,
        }
        self._template = encode(
            "update_available_resource", args, unique_id=_ID, request_id=f"req-{_ID}", reply_queue=reply_queue
        )

    def body(self, event_id: str, number: int) -> bytes:
        """The body of an audit; the number of a later one is higher. The id has 32 hexadecimal digits."""
        body = self._template.replace(_ID.encode(), event_id.encode())
        body = body.replace(str(_AS_OF).encode(), str(2 * number).encode())
        return body.replace(str(_SEQUENCE).encode(), str(2 * number + 1).encode())


def _names(prefix: str, *, quiet: bool) -> Iterator[str]:
    number = 0
    while True:
        name = f"{prefix}-{number:05}"
        if (partition_of(name, DEFAULT_PARTITIONS) == QUIET) == quiet:
            yield name
        number += 1


def _uuid(node: str, what: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{what}"))
