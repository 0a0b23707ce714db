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
            ("limits", "test a claim against the limits that came with it, as Nova's tracker did"),
            ("capacity", "where no limit came, also test what Placement would"),
            ("none", "test nothing; the scheduler alone decides"),
        ],
        help="""
How strictly a claim's memory, disk and vcpus are tested.

With ``limits`` a claim that comes without limits is granted, whatever it asks for and the node has.

Change it to ``capacity`` when claims reach the worker without limits and nobody else (Placement) guards the
capacity; change it to ``none`` when the worker only mirrors another tracker.

With ``capacity`` a claim is granted when all claims with it are not above (total - reserved) * ratio, and it
alone is not above the total, whatever the ratio. ``resources:VCPU``, ``resources:MEMORY_MB`` and
``resources:DISK_GB`` in the flavor's extra specs are tested instead of the flavor's amounts; what is 0 is not
tested, as on nodes of Ironic. What is counted as used is the flavor's in any case.
""",
    ),
    cfg.IntOpt(
        "reserved_host_memory_mb",
        default=512,
        min=0,
        max=2**31 - 1,
        help="""
Memory in MB that a node keeps for itself, for reports that bring no value of their own.

Change it when compute managers do not send reserved_host_memory_mb and their hosts need another amount;
must be the same for all workers. It takes effect at each node's next report.
""",
    ),
    cfg.IntOpt(
        "reserved_host_disk_mb",
        default=0,
        min=0,
        max=2**31 - 1,
        help="""
Disk in MB that a node keeps for itself, for reports that bring no value of their own.

Change it when compute managers do not send reserved_host_disk_mb and their hosts keep disk for themselves.
""",
    ),
    cfg.IntOpt(
        "reserved_host_cpus",
        default=0,
        min=0,
        max=65536,
        help="""
Number of vcpus that a node keeps for itself, for reports that bring no value of their own.

Change it when compute managers do not send reserved_host_cpus and their hosts keep cpus for themselves.
""",
    ),
    cfg.Opt(
        "cpu_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=4.0,
        help="""
Virtual to physical cpus, for reports that bring no ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Change it together with Placement's.
""",
    ),
    cfg.Opt(
        "ram_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=1.0,
        help="""
Virtual to physical memory, for reports that bring no ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Change it together with Placement's.
""",
    ),
    cfg.Opt(
        "disk_allocation_ratio",
        type=FiniteFloat(min=0.01, max=1000.0),
        default=1.0,
        help="""
Virtual to physical disk, for reports that bring no ratio of their own (0.0 counts as none).

Used with ``capacity_check = capacity`` and shown in the node view. Change it together with Placement's.
""",
    ),
    cfg.MultiOpt(
        "reserved_huge_pages",
        item_type=types.Dict(),
        help="""
Memory pages that a node keeps for itself, by NUMA cell and size, for reports that bring none of their own.

Change it when compute managers do not send reserved_huge_pages and their hosts use some of their huge pages
themselves. A cell's own ``mempages.reserved`` in a report wins. It must be the same for all workers, and
takes effect at each node's next report.

A value has Nova's form; the size is in KiB, or has a unit. For example::

    reserved_huge_pages = node:0,size:2048,count:64
    reserved_huge_pages = node:1,size:1GB,count:1
""",
    ),
    cfg.BoolOpt(
        "packing_host_numa_cells_allocation_strategy",
        default=False,
        help="""
Whether instances fill one NUMA cell of a host before the next; by default they spread over the cells.

Change it to the value that nova-compute has under this name in ``[compute]``. It takes effect where a host
has more cells than an instance asks for: packed, it gets those with the least free cpus and memory, spread,
those with the most.
""",
    ),
    cfg.IntOpt(
        "receipt_days",
        default=7,
        min=1,
        max=3650,
        help="""
Days for which receipts of events are kept, counted back from the newest receipt of the same node.

A receipt makes a repeated event harmless and is the node's history. Raise it when events may be repeated
after more than a week, or for a longer history; the table grows by one row an event. The newest 1,000
receipts of a node are kept whatever their age.
""",
    ),
    cfg.IntOpt(
        "dead_letter_days",
        default=30,
        min=1,
        max=3650,
        help="""
Days for which dead letters are kept once they are replayed or discarded.

Lower it where bodies of messages must not be kept for so long, raise it where their history is wanted. A
letter that is parked is kept until it is replayed or discarded.
""",
    ),
    cfg.IntOpt(
        "removed_node_days",
        default=30,
        min=1,
        max=3650,
        help="""
Days for which a removed node's row and receipts are kept, counted from its newest receipt.

After them the node's sequence starts again at 1 should it be reported again. Raise it where nodes come back
after more than a month and events from before may still be repeated. Receipts of parked events whose node is
not tracked are kept no longer either.
""",
    ),
]
