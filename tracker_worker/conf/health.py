# SPDX-License-Identifier: Apache-2.0
"""[health]: where a worker serves its health and metrics, and the limits of the checks."""

from oslo_config import cfg

from tracker_worker.conf.types import FiniteFloat

GROUP = cfg.OptGroup("health", title="Health checks and metrics")

OPTS = [
    cfg.PortOpt(
        "port",
        min=1,
        help="""
Port on which the worker serves ``/livez``, ``/readyz`` and ``/metrics`` over HTTP. If it is not set, the
worker does not listen.

Set it where a supervisor, a load balancer or Prometheus asks. Each worker of a host needs its own. The checks
use one more connection to the database.
""",
    ),
    cfg.HostAddressOpt(
        "host",
        default="127.0.0.1",
        help="""
Address on which the worker listens.

Change it where the one who asks runs on another host. The port shows names of
nodes and the reasons of failures: there is no authentication and no encryption.
""",
    ),
    cfg.IntOpt(
        "stall_limit",
        default=120,
        min=2,
        max=86400,
        help="""
Seconds without progress after which a lane, or the thread that reads from the broker, counts as stuck: the
worker is no longer live, and stops notifying systemd's watchdog. With work and without a commit for this
long, a worker is not ready.

Keep it above ``[oslo_messaging_rabbit] heartbeat_timeout_threshold`` (60): a broken connection is noticed
within that time. Raise it if single statements of the database take longer.
""",
    ),
    cfg.IntOpt(
        "outbox_age_limit",
        default=300,
        min=1,
        max=86400,
        help="""
Seconds that a notification may wait in the database before the workers of that database are not ready.

Raise it where long interruptions of the notification bus are normal.
""",
    ),
    cfg.Opt(
        "slow_event",
        type=FiniteFloat(min=0.001, max=86400.0),
        default=5.0,
        help="""
Seconds from the receipt of an event to its answer above which the worker logs a line with its wait and its
run time, at most one for each transaction.

Lower it to find out what a compute manager waits for.
""",
    ),
]
