# SPDX-License-Identifier: Apache-2.0
"""[bus]: where commands come from."""

from oslo_config import cfg

GROUP = cfg.OptGroup("bus", title="Commands from the message bus")

EXCHANGE = "tracker"

OPTS = [
    cfg.StrOpt(
        "exchange",
        default=EXCHANGE,
        regex=r"^[A-Za-z0-9._-]{1,127}\Z",
        help="""
Exchange that compute managers cast to.

Change it only to run several independent trackers on one virtual host; clients need the same value.
""",
    ),
    cfg.IntOpt(
        "partitions",
        default=16,
        min=1,
        max=1024,
        help="""
Number of partitions, each a queue with one active consumer; a node belongs to crc32(name) modulo this.

Clients and all workers need the same value: an event on the wrong partition is kept as a dead letter.
Raise it, with everything stopped and the queues empty, when more than this many workers shall share the
load.
""",
    ),
    cfg.StrOpt(
        "management_url",
        secret=True,
        help="""
RabbitMQ's management API with user and password, as in http://user:password@host:15672.

``tracker-worker-manage queues list`` asks it which worker is active; nothing else uses it. Set it where the
API is not at the first host of transport_url, with that user, on port 15672 (with TLS 15671).
""",
    ),
]
