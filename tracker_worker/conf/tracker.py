# SPDX-License-Identifier: Apache-2.0
"""[tracker]: the rules of the ledger."""

from oslo_config import cfg, types

from tracker_worker.conf.types import FiniteFloat

GROUP = cfg.OptGroup("tracker", title="Rules of the ledger")

OPTS = [
    cfg.StrOpt(
        "capacity_check",
        default="limits",
        choices=[
            ("limits", "test a claim against the limits that it carries, as Nova's tracker did"),
            ("capacity", "where it carries no limit, also test what Placement would"),
            ("none", "test nothing; the scheduler alone decides"),
        ],
        help="""
How strictly a claim's memory, disk and vcpus are tested.

With ``limits`` a claim that carries no limits is granted, whatever it requests and whatever is free.

Change it to ``capacity`` when claims carry no limits and Placement does not guard the capacity. Change it to
``none`` when the worker only mirrors another tracker.

With ``capacity`` a claim is granted if the sum of all claims, including it, does not exceed
(total - reserved) * ratio, and the claim alone does not exceed the total. ``resources:VCPU``,
``resources:MEMORY_MB`` and ``resources:DISK_GB`` in the flavor's extra specs are tested instead of the
flavor's amounts; an amount of 0 is not tested, as on nodes of Ironic. The usage of
the claim is that of the flavor in any case.
""",
    ),
    cfg.IntOpt(
        "reserved_host_memory_mb",
        default=512,
        min=0,
        max=2**31 - 1,
        help="""
Memory in MB that is reserved for the host, for reports without a value of their own.

Change it when compute managers do not send reserved_host_memory_mb and their hosts need another amount. It
must be the same for all workers. It takes effect at each node's next report.
""",
    ),
    cfg.IntOpt(
        "reserved_host_disk_mb",
        default=0,
        min=0,
        max=2**31 - 1,
        help="""
Disk in MB that is reserved for the host, for reports without a value of their own.

Change it when compute managers do not send reserved_host_disk_mb and their hosts need disk for themselves.
""",
    ),
    cfg.IntOpt(
        "reserved_host_cpus",
        default=0,
        min=0,
        max=65536,
        help="""
Number of vcpus that are reserved for the host, for reports without a value of their own.

Change it when compute managers do not send reserved_host_cpus and their hosts need cpus for themselves.
""",
    ),
    cfg.Opt(
        "cpu_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=4.0,
        help="""
Ratio of virtual to physical cpus, for reports without a ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Keep it equal to the ratio in Placement.
""",
    ),
    cfg.Opt(
        "ram_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=1.0,
        help="""
Ratio of virtual to physical memory, for reports without a ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Keep it equal to the ratio in Placement.
""",
    ),
    cfg.Opt(
        "disk_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=1.0,
        help="""
Ratio of virtual to physical disk, for reports without a ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Keep it equal to the ratio in Placement.
""",
    ),
    cfg.MultiOpt(
        "reserved_huge_pages",
        item_type=types.Dict(),
        help="""
Huge pages that are reserved for the host, by NUMA cell and size, for reports without values of their own.

Change it when compute managers do not send reserved_huge_pages and their hosts use some of their huge pages
themselves. ``mempages.reserved`` of a cell in a report takes precedence. It must be the same for all workers.
It takes effect at each node's next report.

A value has the same form as in Nova; the size is in KiB, or has a unit. For example::

    reserved_huge_pages = node:0,size:2048,count:64
    reserved_huge_pages = node:1,size:1GB,count:1
""",
    ),
    cfg.BoolOpt(
        "packing_host_numa_cells_allocation_strategy",
        default=False,
        help="""
Whether instances fill one NUMA cell of a host before the next; by default they spread over the cells.

Set it to the value of nova-compute's option of this name in ``[compute]``. It takes effect where a host has
more cells than an instance requests: with packing the instance gets the cells with the least free cpus and
memory, without it those with the most.
""",
    ),
    cfg.IntOpt(
        "receipt_days",
        default=7,
        min=1,
        max=3650,
        help="""
Days for which receipts of events are kept, counted back from the newest receipt of the same node.

Receipts de-duplicate events and are the history of the node. Raise it when events may be repeated after more
than a week, or for a longer history. The table grows by one row an event. The newest 1,000
receipts of a node are kept whatever their age.
""",
    ),
    cfg.IntOpt(
        "dead_letter_days",
        default=30,
        min=1,
        max=3650,
        help="""
Days for which dead letters are kept after they were replayed or discarded.

Lower it where bodies of messages must not be kept for so long, raise it for a longer history. Parked letters
are kept until they are replayed or discarded.
""",
    ),
    cfg.IntOpt(
        "removed_node_days",
        default=30,
        min=1,
        max=3650,
        help="""
Days for which a removed node's row and receipts are kept, counted from its newest receipt.

If the node is reported again later, its sequence starts at 1. Raise it where nodes return after more than a
month and earlier events may still be repeated. Receipts of parked events whose node is not tracked are kept
as long.
""",
    ),
]
