# SPDX-License-Identifier: Apache-2.0
"""Options of nova.conf for the adapter, in the group [tracker_worker]."""

from typing import Any

from oslo_config import cfg

from tracker_worker.rpcapi import DEFAULT_EXCHANGE, DEFAULT_PARTITIONS, EXCHANGE_PATTERN

GROUP = "tracker_worker"
URL = f"[{GROUP}] transport_url"
"""The name of the option in errors."""

TAP, MIRROR, REPLACE = "tap", "mirror", "replace"

OPTIONS = [
    cfg.StrOpt(
        "mode",
        choices=[
            (TAP, "Nova's tracker decides; what it does is cast to the worker"),
            (
                MIRROR,
                "as tap, and after each audit the worker's node view is compared with Nova's compute node",
            ),
            (REPLACE, "the worker decides: claims are calls to it"),
        ],
        help="What this nova-compute has to do with tracker-worker. Unset, it is nova-compute alone.",
    ),
    cfg.StrOpt(
        "transport_url",
        secret=True,
        help="URL of the workers' RabbitMQ, with their virtual host; by default [DEFAULT] transport_url. The "
        "workers' queues are durable: where [oslo_messaging_rabbit] has neither amqp_durable_queues nor "
        "rabbit_quorum_queue, write rabbit://.../?amqp_durable_queues=true.",
    ),
    cfg.StrOpt(
        "exchange",
        default=DEFAULT_EXCHANGE,
        regex=EXCHANGE_PATTERN,
        help="Exchange of the workers ([bus] exchange there).",
    ),
    cfg.IntOpt(
        "partitions",
        default=DEFAULT_PARTITIONS,
        min=1,
        help="Number of the workers' queues ([bus] partitions there).",
    ),
    cfg.IntOpt(
        "timeout",
        default=60,
        min=1,
        help="Seconds within which the broker confirms a cast, and a worker answers a claim. A claim without "
        "an answer fails, and Nova schedules the build to another host.",
    ),
]


def register(conf: Any) -> None:
    """Register the options. `conf` is nova.conf.CONF."""
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[str, list[Any]]]:
    """Return the options for oslo-config-generator."""
    return [(GROUP, OPTIONS)]
