# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-nova-compute: nova-compute with the adapter of [tracker_worker] mode in nova.conf.

Takes nova-compute's arguments. Without a mode it is nova-compute: nothing is put into it. It is not among the
programs of tracker_worker.cmd, which import what Nova forbids before it has chosen how its threads work.
"""

import logging
import sys
from typing import Any

LOG = logging.getLogger(__name__)


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

    set_up_log = compute.logging.setup

    def set_up_log_and_install(*args: Any, **settings: Any) -> None:
        """Install once the options are read and the log is set up, before Nova makes its ComputeManager."""
        compute.logging.setup = set_up_log
        set_up_log(*args, **settings)
        if refused := _install(compute.CONF):
            LOG.critical("Not started: %s", refused)
            sys.exit(f"tracker-worker-nova-compute: {refused}")

    options.register(compute.CONF)
    compute.logging.setup = set_up_log_and_install
    sys.argv[0] = "nova-compute"  # The name by which oslo.config finds nova-compute.conf, and of the usage.
    compute.main()


def _install(conf: Any) -> str | None:
    """Put the adapter into this process if the configuration has a mode, and log what was read of it.

    Return why nova-compute must not start with these options, None where it may.
    """
    from importlib.metadata import version

    from oslo_config import cfg

    from tracker_worker import option_errors
    from tracker_worker.client.transport import TRANSPORT_FORM, is_for_rabbitmq
    from tracker_worker.exceptions import TrackerWorkerException
    from tracker_worker.nova import options
    from tracker_worker.nova.installation import install
    from tracker_worker.rpcapi import TrackerAPI

    if wrong := option_errors.wrong_values(conf, options.GROUP):
        return "; ".join(map(_with_way_out, wrong))
    settings = conf[options.GROUP]
    for line in option_errors.unknown_options_of_shared_files(conf, {options.GROUP: set(settings)}):
        LOG.warning("%s", line)
    if settings.mode is None:
        return None

    try:
        url = settings.transport_url
    except cfg.Error:  # Its text quotes what follows a $, a part of a password.
        return f"{options.URL}: write $ as $$"
    unset = "" if url else f" ({options.URL} is not set: [DEFAULT] transport_url is used)"

    def connect() -> TrackerAPI:
        return TrackerAPI.from_conf(
            conf,
            url,
            url_option=options.URL,
            exchange=settings.exchange,
            partitions=settings.partitions,
            timeout=settings.timeout,
        )

    try:
        broker = connect().broker  # Opens no connection, but refuses options that no client can work with.
    except (cfg.Error, TrackerWorkerException, ValueError) as error:
        return f"{error}{unset}"
    if not is_for_rabbitmq(broker):
        return f"{options.URL}: no worker is at {broker}, write {TRANSPORT_FORM}{unset}"
    install(settings.mode, connect, settings.timeout)
    LOG.info(
        "tracker-worker %s: [%s] mode %s, exchange %s, partitions %d, workers at %s, timeout %d s",
        version("tracker-worker"),
        options.GROUP,
        settings.mode,
        settings.exchange,
        settings.partitions,
        broker,
        settings.timeout,
    )
    return None


def _with_way_out(wrong: str) -> str:
    """Return the error of a wrong value, of a mode with how to have none: no value of it means Nova alone."""
    is_mode = wrong.startswith("[tracker_worker] mode ")
    return f"{wrong} (for Nova alone leave the option out)" if is_mode else wrong
