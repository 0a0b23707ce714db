# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-nova-compute: nova-compute with the adapter of [tracker_worker] mode in nova.conf.

Takes nova-compute's arguments. Without a mode it is nova-compute: nothing is put into it. It is not among the
programs of tracker_worker.cmd, which import what Nova forbids before it has chosen how its threads work.
"""

import sys
from typing import Any


def main() -> None:
    """Run nova-compute. Raises SystemExit where there is no Nova, or where its options are invalid."""
    try:
        # Before anything of oslo: Nova refuses an eventlet that was imported earlier.
        from nova.cmd import compute
    except ModuleNotFoundError as error:
        if error.name != "nova":
            raise
        sys.exit("tracker-worker-nova-compute needs Nova: install tracker-worker into Nova's environment")
    from tracker_worker.nova import options

    parse_args = compute.config.parse_args

    def parse_args_and_install(argv: list[str], **settings: Any) -> None:
        parse_args(argv, **settings)
        _install(compute.CONF)

    options.register(compute.CONF)
    compute.config.parse_args = parse_args_and_install
    sys.argv[0] = "nova-compute"  # The name by which oslo.config finds nova-compute.conf, and of the usage.
    compute.main()


def _install(conf: Any) -> None:
    """Put the adapter into this process if the configuration has a mode."""
    from oslo_config import cfg

    from tracker_worker.exceptions import TrackerWorkerException
    from tracker_worker.nova.installation import install
    from tracker_worker.rpcapi import TrackerAPI

    settings = conf.tracker_worker

    def connect() -> TrackerAPI:
        return TrackerAPI.from_conf(
            conf,
            settings.transport_url,
            exchange=settings.exchange,
            partitions=settings.partitions,
            timeout=settings.timeout,
        )

    try:
        if settings.mode is not None:
            connect()  # Opens no connection, but refuses options that no client can work with.
            install(settings.mode, connect, settings.timeout)
    except (cfg.Error, TrackerWorkerException, ValueError) as error:
        sys.exit(f"tracker-worker-nova-compute: {error}")
