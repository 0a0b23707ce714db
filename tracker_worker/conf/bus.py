# SPDX-License-Identifier: Apache-2.0
"""[bus]: the exchange and the queues of commands."""

from oslo_config import cfg

from tracker_worker.domain.partitions import DEFAULT_EXCHANGE, DEFAULT_PARTITIONS, EXCHANGE_PATTERN

GROUP = cfg.OptGroup("bus", title="Commands from the message bus")

OPTS = [
    cfg.StrOpt(
        "exchange",
        default=DEFAULT_EXCHANGE,
        regex=EXCHANGE_PATTERN,
        help="""
Exchange on which compute managers publish commands.

Change it only to run several independent trackers on one virtual host. Clients need the same value.
""",
    ),
    cfg.IntOpt(
        "partitions",
        default=DEFAULT_PARTITIONS,
        min=1,
        max=1024,
        help="""
Number of partitions. Each is a queue with one active consumer. A node belongs to partition crc32(name)
modulo this number.

Clients and all workers need the same value: an event on the wrong partition is kept as a dead letter.
Raise it to share the load between more workers than this, with everything stopped and the queues empty.
""",
    ),
    cfg.StrOpt(
        "management_url",
        secret=True,
        help="""
URL of RabbitMQ's management API with user and password: http://USER:PASSWORD@HOST:15672.

Only ``status`` and ``queues list`` of tracker-worker-manage use it, to tell which worker is active, and the
upgrade check, which tries it. By default the API is expected on the first host of ``transport_url``, with its
user, on port 15672 (with TLS 15671).
""",
    ),
]
