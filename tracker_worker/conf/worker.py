# SPDX-License-Identifier: Apache-2.0
"""[worker]: one worker process."""

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
Partitions that this worker consumes at once, as numbers and ranges; not set, all of them.

It consumes the others after ``standby_delay``, so that RabbitMQ hands them over as soon as their own worker
is gone. Change it to share the load between workers: give each a part of the partitions.
""",
    ),
    cfg.Opt(
        "standby_delay",
        type=FiniteFloat(min=0.0, max=3600.0),
        default=10.0,
        help="""
Seconds after which this worker stands by for the partitions that are not its own.

Raise it where workers take long to start: the first one to consume a partition keeps it.
""",
    ),
    cfg.IntOpt(
        "lanes",
        default=1,
        min=1,
        max=64,
        help="""
Threads that apply events, each with its own nodes and two connections to the database: ``[database]
max_pool_size`` and ``max_overflow`` must allow two for each, and two more. SQLite allows only 1.

Raise it when the database's latency, not this process's cpu, bounds the rate; start more workers otherwise.
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
Most events that one transaction commits. A lane takes what is waiting and never waits for more.

Lower it when transactions of this size hold the database's locks for too long.
""",
    ),
    cfg.IntOpt(
        "batch_bytes",
        default=1024 * 1024,
        min=1024,
        max=64 * 1024 * 1024,
        help="""
Most bytes of messages that one transaction commits; one larger message is a batch of its own.

Lower it where the database limits the size of a statement.
""",
    ),
    cfg.IntOpt(
        "prefetch",
        default=256,
        min=1,
        max=10000,
        help="""
Messages of one partition that wait in memory. The same for all workers of a cluster.

Raise it with batch_size; ``memory_budget`` bounds the bytes. Do not lower it while quorum queues hold
messages that were handed out before: RabbitMQ would hand those out in another order.
""",
    ),
    cfg.IntOpt(
        "memory_budget",
        default=256,
        min=1,
        max=1024 * 1024,
        help="""
Mebibytes of messages (the bytes of their bodies) that wait in the memory of one worker, of all partitions
together. A larger message is taken when it is the only one.

When it is used up, the worker gives messages back to RabbitMQ and takes less of each partition at once, as
much as fits an equal share of the budget. Other workers may take such a partition over. The process needs
about 100 MiB more, and several times ``batch_bytes`` for each of its lanes. Raise it when the log says often
that queues get less at once, and the machine has the memory. No effect on ``fake://``, which keeps all that
is cast in memory.
""",
    ),
    cfg.IntOpt(
        "cached_nodes",
        default=10_000,
        min=1,
        max=1_000_000,
        help="""
Number of nodes that a lane keeps in memory between batches; the least recently used is dropped first.

A node that is not cached costs three statements when its next event comes. Lower it to save memory: a node
takes about 2 KB, and 1 KB more for each instance on it.
""",
    ),
    cfg.IntOpt(
        "max_attempts",
        default=3,
        min=1,
        max=100,
        help="""
Maximum delivery attempts. An event that is in flight this many times when the worker crashes or loses its
database connection is moved to the dead letters.

Raise it if workers are often killed for unrelated reasons (for example by the OOM killer).
""",
    ),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=1,
        max=3600,
        help="""
Seconds in which a stopping worker finishes what it has taken: commit, reply, publish, close.

Keep it below the service supervisor's own limit.
""",
    ),
]
