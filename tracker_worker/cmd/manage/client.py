# SPDX-License-Identifier: Apache-2.0
"""The client of the commands that send something to the workers."""

from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.session import broker_of
from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.rpcapi import TrackerAPI


def client_of(conf: cfg.ConfigOpts) -> TrackerAPI:
    """Return a client of the workers; it connects when it sends. Raises CommandFailed."""
    settings, _ = broker_of(conf)
    try:
        return TrackerAPI.from_conf(conf, exchange=settings.exchange, partitions=settings.partitions)
    except TrackerWorkerException as error:
        raise CommandFailed(str(error)) from error
