# SPDX-License-Identifier: Apache-2.0
"""[worker]: settings of one worker process."""

from oslo_config import cfg

from tracker_worker.conf.types import AscendingRange, FiniteFloat

GROUP = cfg.OptGroup("worker", title="The worker process")

OPTS = [
    cfg.ListOpt(
        "partitions",
        default=[],
        item_type=AscendingRange(min=0, max=1023),
        sample_default=["0-7"],
        help="""
Partitions that this worker consumes from its start, as numbers and ranges; if it is not set, all of them.

The worker stands by for the others after ``standby_delay``: RabbitMQ fails a partition over as soon as its
active worker disconnects. Set it to share the load between workers: give each a part of the partitions.
""",
    ),
    cfg.Opt(
        "standby_delay",
        type=FiniteFloat(min=0.0, max=3600.0),
        default=10.0,
        help="""
Seconds after which this worker stands by for partitions other than those in ``partitions``.

Raise it where workers take long to start: the first worker to consume a partition stays the active one.
""",
    ),
    cfg.IntOpt(
        "lanes",
        default=1,
        min=1,
        max=64,
        help="""
Number of threads that apply events. Each owns its nodes and uses two connections to the database:
``[database] max_pool_size`` and ``max_overflow`` must allow two for each and two more, and
one more each with ``[health] port`` and ``[placement] enabled``. SQLite allows only 1.

Raise it if the latency of the database bounds the rate; if the cpu of this process does, start more workers.
With more than one lane, a crash that one lane's event causes also counts as an attempt of the event that
another lane is isolating. Keep the default of 1 if poison messages are a concern.
""",
    ),
    cfg.IntOpt(
        "batch_size",
        default=256,
        min=1,
        max=10000,
        help="""
Maximum number of events that one transaction commits. A lane takes the events that are waiting and never
waits for more. A partition that waits alone fills a quarter of it.

Lower it if transactions of this size hold locks of the database for too long.
""",
    ),
    cfg.IntOpt(
        "batch_bytes",
        default=1024 * 1024,
        min=1024,
        max=64 * 1024 * 1024,
        help="""
Maximum bytes of messages that one transaction commits; a larger message is a batch of its own.

Lower it where the database limits the size of a statement.
""",
    ),
    cfg.IntOpt(
        "prefetch",
        default=256,
        min=1,
        max=10000,
        help="""
Maximum number of messages of one partition that wait in memory. It must be the same for all workers.

Raise it together with ``batch_size``; ``memory_budget`` bounds the bytes. Do not lower it while quorum queues
hold messages that were delivered before: RabbitMQ would redeliver them in another order.
""",
    ),
    cfg.IntOpt(
        "memory_budget",
        default=256,
        min=1,
        max=1024 * 1024,
        help="""
Maximum memory in MiB for the bodies of messages that wait in one worker, over all partitions. A larger
message is accepted when it is the only one.

When the budget is used up, the worker returns messages to RabbitMQ and reduces the prefetch of each partition
to an equal share of the budget. Another worker may take over such a partition. The process needs about
100 MiB more, and several times ``batch_bytes`` for each lane. Raise it if the log often reports a reduced
prefetch. It has no effect on ``fake://``, which keeps all messages in memory.
""",
    ),
    cfg.IntOpt(
        "cached_nodes",
        default=10_000,
        min=1,
        max=1_000_000,
        help="""
Maximum number of nodes that a lane caches between batches; the least recently used is dropped first.

Loading nodes that are not cached costs a batch three statements. Keep it above the number of nodes that a
lane may own, those of a worker that it stands in for included: otherwise audits, which go round all nodes,
load almost every node again, at several times the CPU. A node takes about 3 KB, and 0.5 KB more for each
instance on it.
""",
    ),
    cfg.IntOpt(
        "max_attempts",
        default=3,
        min=1,
        max=100,
        help="""
Maximum delivery attempts of a redelivered event; its first delivery is not counted. An event that is in
flight in that many of them when the worker crashes or loses its database connection is moved to the dead
letters.

Raise it if workers are often killed for unrelated reasons (for example by the OOM killer).
""",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=1,
        max=3600,
        help="""
Seconds that a stopping worker has to commit what it has taken, reply, publish notifications and disconnect.

Keep it below the timeout of the service supervisor (``TimeoutStopSec`` of systemd).
""",
    ),
]
